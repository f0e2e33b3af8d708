//! The program's entry point. In: the command line. Out: the output of one command, rendered errors and the exit code. It must not
//! hold the logic of a command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use quarry::cli::{Cli, Command, LogFormat};
use quarry::console;
use quarry::error::{Error, Result};
use quarry::machine::cache::remove_temporary_cache;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed output cannot receive the message.
            let _ = usage.print();
            // Usage errors exit 1, not clap's 2: 2 means "retry".
            return ExitCode::from(u8::from(usage.use_stderr()));
        }
    };
    let profile = match &cli.command {
        Command::Run(arguments) => arguments.profile.as_deref(),
        _ => None,
    };
    let (json, plain) = (cli.log_format == LogFormat::Json, cli.log_format == LogFormat::Plain);
    quarry::machine::panics::log_contained();
    let style = console::start(cli.log, json, plain, profile);
    let result = style.and_then(|style| dispatch(cli.command, style));
    let code = result.and_then(|code| console::printed().map(|()| code)).unwrap_or_else(|error| {
        console::error(&error);
        error.exit_code()
    });
    console::finish();
    remove_temporary_cache();
    ExitCode::from(code)
}

fn dispatch(command: Command, style: console::Style) -> Result<u8> {
    match command {
        Command::Run(arguments) => quarry::run::run(&arguments.settings(), style, runtime()?),
        Command::Prepare(arguments) => quarry::prepare::command(&arguments.settings()?),
        #[cfg(feature = "train")]
        Command::Train(arguments) => quarry::train::command(&arguments.settings(), style, &runtime()?),
        #[cfg(not(feature = "train"))]
        Command::Train(_) => Err(Error::Training {
            reason: "this program was built without training".into(),
            hint: "run `python3 tools/libtorch.py`, then build with `--features train`".into(),
        }),
        Command::Export(arguments) => quarry::export::command(&arguments.settings()?),
        Command::Evaluate(arguments) => runtime()?.block_on(quarry::evaluate::command(&arguments.settings())),
        Command::Sql(arguments) => quarry::sql::command(&arguments.settings(), &runtime()?),
        Command::Report(arguments) => runtime()?.block_on(quarry::report::command(&arguments.settings())),
        Command::Try(arguments) => quarry::r#try::command(&arguments.settings()),
        Command::Doctor(arguments) => quarry::doctor::command(&arguments.settings(), runtime()?),
        #[cfg(feature = "cluster")]
        Command::Scheduler(arguments) => {
            runtime()?.block_on(quarry::cluster::scheduler::command(&arguments.settings()))
        }
        #[cfg(feature = "cluster")]
        Command::Executor(arguments) => runtime()?.block_on(quarry::cluster::executor::command(&arguments.settings())),
        #[cfg(not(feature = "cluster"))]
        Command::Scheduler(_) | Command::Executor(_) => Err(Error::Setting {
            origin: "quarry".into(),
            key: "cluster".into(),
            reason: "this program was built without clusters".into(),
            hint: "build it with `--features cluster`".into(),
        }),
        #[cfg(feature = "cluster")]
        Command::Chunk { name, device } => {
            console::print_json(&runtime()?.block_on(quarry::cluster::executor::one_chunk(&name, device))?);
            Ok(0)
        }
        Command::Completions { shell } => quarry::completions::command(shell, Cli::command()),
        Command::Man { out } => quarry::man::command(&out, Cli::command()),
        Command::Probe { library, cuda, openvino } => {
            console::print(&quarry::model::runtime::device::probe(&library, &cuda, openvino)?);
            Ok(0)
        }
    }
}

/// The one runtime of the program, started only for a command that needs it.
fn runtime() -> Result<Runtime> {
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    Builder::new_multi_thread().enable_all().build().map_err(failed)
}
