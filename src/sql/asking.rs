//! Statements and commands, one after the other. In: pieces of a script. Out: their results, where the output says, or the first error. It
//! may not read a terminal.

use std::path::PathBuf;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::asked::{Asked, Event};
use super::fault::explain;
use super::output::Output;
use super::script::{Piece, Statement, pieces};
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
pub(super) struct Asking {
    pub(super) asked: Asked,
    pub(super) output: Output,
    interrupt: Interrupt,
    /// Scripts that are being read, one named by the other.
    depth: usize,
}

/// Ctrl-C and SIGTERM. A shell leaves SIGTERM alone: it shall end it while it waits for a line, too.
struct Interrupt {
    interrupt: Signal,
    terminate: Option<Signal>,
}

impl Asking {
    /// Needs a runtime: it listens to signals from now on.
    pub(super) fn new(asked: Asked, output: Output) -> Result<Self> {
        let failed =
            |source: std::io::Error| Error::Engine { doing: "listen to signals".into(), source: source.into() };
        let interrupt = Interrupt {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: if output.shell { None } else { Some(signal(SignalKind::terminate()).map_err(failed)?) },
        };
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

    /// Answers one statement.
    pub(super) async fn statement(&mut self, statement: &Statement<'_>) -> Result<()> {
        let started = Instant::now();
        let mut answer = self.asked.ask(statement.text);
        self.interrupt.forget();
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
    /// What was pressed before now is no answer to what comes.
    fn forget(&mut self) {
        use futures::FutureExt;
        while self.interrupt.recv().now_or_never().flatten().is_some() {}
    }

    async fn wait(&mut self) -> Error {
        tokio::select! {
            _ = self.interrupt.recv() => Error::Stopped { signal: "Ctrl-C", exit_code: 130 },
            () = terminated(self.terminate.as_mut()) => Error::Stopped { signal: "SIGTERM", exit_code: 143 },
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
