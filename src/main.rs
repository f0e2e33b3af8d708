//! The program's entry point. In: the command line. Out: the output of one command, rendered errors and the exit code. It must not
//! hold the logic of a command.

use std::process::ExitCode;

use clap::Parser;
use quarry::cli::{Cli, Command, LogFormat};
use quarry::console;
use quarry::error::Result;

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
    let style = console::start(cli.log, json, plain, profile);
    let result = style.and_then(|style| dispatch(cli.command, style));
    let code = result.and_then(|code| console::printed().map(|()| code)).unwrap_or_else(|error| {
        console::error(&error);
        error.exit_code()
    });
    console::finish();
    ExitCode::from(code)
}

fn dispatch(command: Command, style: console::Style) -> Result<u8> {
    match command {
        Command::Run(arguments) => quarry::run::run(&arguments, style),
        Command::Prepare(arguments) => quarry::prepare::command(&arguments),
        #[cfg(feature = "train")]
        Command::Train(arguments) => quarry::train::command(&arguments, style),
        #[cfg(not(feature = "train"))]
        Command::Train(_) => Err(quarry::error::Error::Training {
            reason: "this program was built without training".into(),
            hint: "run `python3 tools/libtorch.py`, then build with `--features train`".into(),
        }),
        Command::Export(arguments) => quarry::export::command(&arguments),
        Command::Evaluate(arguments) => quarry::evaluate::command(&arguments),
        Command::Sql(arguments) => quarry::sql::command(&arguments),
        Command::Report(arguments) => quarry::report::command(&arguments),
        Command::Try(arguments) => quarry::r#try::command(&arguments),
        Command::Doctor(arguments) => quarry::doctor::command(&arguments),
        Command::Completions { shell } => quarry::completions::command(shell),
        Command::Man { out } => quarry::man::command(&out),
        Command::Probe { library, cuda, openvino } => {
            console::print(&quarry::model::runtime::device::probe(&library, cuda, openvino)?);
            Ok(0)
        }
    }
}
