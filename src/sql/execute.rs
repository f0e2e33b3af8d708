//! Statements and commands, one after the other. In: pieces of a script. Out: their results, where the output says, or the first error. It
//! may not read a terminal.

use std::path::PathBuf;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::error_messages::explain;
use super::output::Output;
use super::script::{Piece, Statement, pieces};
use super::session::{Event, SqlSession};
use crate::error::{Error, Result};

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Go on.
    On,
    /// The user wants to leave.
    Quit,
}

/// A store that is asked, and where answers go.
pub(super) struct Execution {
    pub(super) asked: SqlSession,
    pub(super) output: Output,
    interrupt: Interrupt,
    /// Scripts that are being read, one named by the other.
    depth: usize,
}

/// Ctrl-C and SIGTERM. A shell leaves SIGTERM alone: it shall end it while it waits for a line, too.
struct Interrupt {
    /// The signal's name, and the exit code of a program that it ends.
    heard: mpsc::UnboundedReceiver<(&'static str, u8)>,
}

impl Execution {
    /// It listens to signals from now on.
    pub(super) fn new(asked: SqlSession, output: Output) -> Result<Self> {
        let interrupt = Interrupt::listen(!output.shell).map_err(|source: std::io::Error| Error::Engine {
            doing: "listen to signals".into(),
            source: source.into(),
        })?;
        Ok(Self { asked, output, interrupt, depth: 0 })
    }

    /// Does what a script says, up to its end or the first error.
    pub(super) async fn script(&mut self, text: &str) -> Result<Flow> {
        for piece in pieces(text) {
            let flow = match piece {
                Piece::Statement(statement) => self.statement(&statement).await.map(|()| Flow::On)?,
                Piece::Command(command) => self.command(command).await?,
            };
            if flow == Flow::Quit {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Does what a file says.
    pub(super) async fn read(&mut self, path: &str) -> Result<Flow> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: PathBuf::from(path), source: source.into() })?;
        if self.depth >= 8 {
            return Err(Error::Setting {
                origin: "sql".into(),
                key: path.to_owned(),
                reason: "the files read each other".into(),
                hint: "a file that is read may not name the file that reads it".into(),
            });
        }
        self.depth += 1;
        let flow = Box::pin(self.script(&text)).await;
        self.depth -= 1;
        flow
    }

    /// Reads what others have committed since, before a shell answers what was typed. A signal ends it.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.interrupt.forget();
        tokio::select! {
            biased;
            stopped = self.interrupt.wait() => Err(stopped),
            refreshed = self.asked.refresh() => refreshed,
        }
    }

    /// Answers one statement; a signal ends it.
    pub(super) async fn statement(&mut self, statement: &Statement<'_>) -> Result<()> {
        let started = Instant::now();
        let mut answer = self.asked.ask(statement.text);
        let (mut result, mut enough) = (None, false);
        while !enough {
            let event = tokio::select! {
                biased;
                stopped = self.interrupt.wait() => return Err(stopped),
                event = answer.events.recv() => event,
            };
            match (event, &mut result) {
                (Some(Event::Columns(columns)), None) if !columns.fields().is_empty() => {
                    result = Some(self.output.begin(&columns, started)?);
                }
                (Some(Event::Rows(batch)), Some(writer)) => {
                    enough = !writer.write(&batch)?;
                }
                (Some(_), _) => {}
                (None, _) => break,
            }
        }
        // Who has enough drops the answer, which cancels the rest of it.
        if !enough && let Err(cause) = answer.ended().await {
            return Err(explain(&cause, statement, &self.asked.names()));
        }
        if let Some(writer) = result {
            return writer.finish(&self.output);
        }
        self.output.done(started);
        Ok(())
    }
}

impl Interrupt {
    /// Listens on a thread of its own: a query may keep every thread of the engine's runtime busy.
    fn listen(terminate: bool) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, heard) = mpsc::unbounded_channel();
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = if terminate { Some(signal(SignalKind::terminate())?) } else { None };
        drop(entered);
        let listen = async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => ("Ctrl-C", 130),
                    () = terminated(terminate.as_mut()) => ("SIGTERM", 143),
                };
                if sender.send(signal).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(listen))?;
        Ok(Self { heard })
    }

    /// In a shell, what was pressed before now is no answer to what comes.
    fn forget(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }

    async fn wait(&mut self) -> Error {
        match self.heard.recv().await {
            Some((signal, exit_code)) => Error::Stopped { signal, exit_code },
            None => std::future::pending().await,
        }
    }
}

async fn terminated(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
