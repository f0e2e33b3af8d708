//! Execution of statements and commands, one after the other. In: pieces of a script. Out: their results, written to the output, or the
//! first error. It must not read a terminal.

use std::path::PathBuf;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::error_messages::explain;
use super::output::Output;
use super::script::{Piece, Statement, pieces};
use super::session::{Event, SqlSession};
use crate::error::{Error, Result};

/// Whether execution continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Continue.
    Continue,
    /// The user quits.
    Quit,
}

/// A session and the output of its results.
pub(super) struct Execution {
    pub(super) session: SqlSession,
    pub(super) output: Output,
    interrupt: Interrupt,
    /// Nesting depth of the scripts that are being read.
    depth: usize,
}

/// Ctrl-C and SIGTERM. A shell does not catch SIGTERM, which then also ends it while it waits for a line.
struct Interrupt {
    /// The signal's name, and the exit code of a program that it ends.
    received: mpsc::UnboundedReceiver<(&'static str, u8)>,
}

impl Execution {
    /// Starts to listen to signals.
    pub(super) fn new(session: SqlSession, output: Output) -> Result<Self> {
        let interrupt = Interrupt::listen(!output.shell).map_err(|source: std::io::Error| Error::Engine {
            doing: "listen to signals".into(),
            source: source.into(),
        })?;
        Ok(Self { session, output, interrupt, depth: 0 })
    }

    /// Runs a script, up to its end or the first error.
    pub(super) async fn script(&mut self, text: &str) -> Result<Flow> {
        for piece in pieces(text) {
            let flow = match piece {
                Piece::Statement(statement) => self.statement(&statement).await.map(|()| Flow::Continue)?,
                Piece::Command(command) => self.command(command).await?,
            };
            if flow == Flow::Quit {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    /// Runs the script in a file.
    pub(super) async fn read(&mut self, path: &str) -> Result<Flow> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: PathBuf::from(path), source: source.into() })?;
        if self.depth >= 8 {
            return Err(Error::Setting {
                origin: "sql".into(),
                key: path.to_owned(),
                reason: "the files include each other".into(),
                hint: "remove the \\i that includes a file from within itself".into(),
            });
        }
        self.depth += 1;
        let flow = Box::pin(self.script(&text)).await;
        self.depth -= 1;
        flow
    }

    /// Loads commits of other processes before a shell runs the next line. A signal ends it.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.interrupt.discard();
        tokio::select! {
            biased;
            stopped = self.interrupt.wait() => Err(stopped),
            refreshed = self.session.refresh() => refreshed,
        }
    }

    /// Runs one statement; a signal ends it.
    pub(super) async fn statement(&mut self, statement: &Statement<'_>) -> Result<()> {
        let started = Instant::now();
        let mut running = self.session.execute(statement.text);
        let (mut result, mut enough) = (None, false);
        while !enough {
            let event = tokio::select! {
                biased;
                stopped = self.interrupt.wait() => return Err(stopped),
                event = running.events.recv() => event,
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
        // Dropping a running statement cancels it.
        if !enough && let Err(cause) = running.finish().await {
            return Err(explain(&cause, statement, &self.session.names()));
        }
        if let Some(writer) = result {
            return writer.finish(&self.output);
        }
        self.output.done(started);
        Ok(())
    }
}

impl Interrupt {
    /// Listens on a thread with a runtime of its own: a query can keep every thread of the program's runtime busy, and then that runtime
    /// does not see signals.
    fn listen(terminate: bool) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, received) = mpsc::unbounded_channel();
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
        Ok(Self { received })
    }

    /// Discards earlier signals: in a shell, they do not apply to the next statement.
    fn discard(&mut self) {
        while self.received.try_recv().is_ok() {}
    }

    async fn wait(&mut self) -> Error {
        match self.received.recv().await {
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
