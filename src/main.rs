//! The program: parse, dispatch, render errors, exit code.

use std::process::ExitCode;

use clap::Parser;
use quarry::cli::{Cli, Command, LogFormat};
use quarry::console;
use quarry::error::Result;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let style = console::start(cli.log, cli.log_format == LogFormat::Json, cli.log_format == LogFormat::Plain);
    match dispatch(cli.command, style) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            console::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
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
            hint: "python3 tools/libtorch.py, then build with --features train".into(),
        }),
        Command::Export(arguments) => quarry::export::command(&arguments),
        Command::Evaluate(arguments) => quarry::evaluate::command(&arguments),
        Command::Sql(arguments) => quarry::sql::command(&arguments),
        Command::Report(arguments) => quarry::report::command(&arguments),
        Command::Probe { library } => {
            console::print(&quarry::model::library::probe(&library)?);
        Command::Try(arguments) => quarry::r#try::command(&arguments),
        Command::Doctor(arguments) => quarry::doctor::command(&arguments),
        Command::Completions { shell } => quarry::completions::command(shell),
        Command::Man { out } => quarry::man::command(&out),
        Command::Probe { library, cuda } => {
            console::print(&quarry::model::device::probe(&library, cuda)?);
            Ok(0)
        }
    }
}
