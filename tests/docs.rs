//! Checks the guides against the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use quarry::cli::Cli;
use quarry::text::document::RejectReason;

use crate::support::project;

/// README.md, CONTRIBUTING.md, CHANGELOG.md, the guides and the benchmarks.
fn pages() -> Vec<(PathBuf, String)> {
    let guides = fs::read_dir(project().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let guides = guides.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let front = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"].map(|name| project().join(name));
    guides.chain(front).map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// Scheduler files and benchmarks, whose comments also contain commands.
fn scripts() -> Vec<(PathBuf, String)> {
    let folders = ["jobs", "jobs/airflow", "jobs/cluster", "jobs/cron", "jobs/kubernetes", "jobs/systemd", "benches"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(project().join(folder)).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    // Folders and Parquet files are not text.
    paths.filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .collect::<String>();
    kept.trim().replace(' ', "-")
}

#[test]
fn every_error_and_every_reason_of_rejects_is_documented() {
    let source = fs::read_to_string(project().join("src/error.rs")).unwrap();
    let body = source.split_once("pub enum Error {").unwrap().1.split_once("\n}").unwrap().0;
    let variants: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(" {").map(|(name, _)| name))
        .filter(|name| name.starts_with(char::is_uppercase))
        .collect();
    assert!(variants.len() > 15, "{variants:?}");
    let page = fs::read_to_string(project().join("docs/errors.md")).unwrap();
    let headings = page.lines().filter(|line| line.starts_with("## "));
    let documented: BTreeSet<&str> = headings
        .filter_map(|line| line.split_once("(`").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name))
        .collect();
    assert_eq!(variants, documented);
    for reason in RejectReason::ALL {
        assert!(page.contains(&format!("`{}`", reason.as_str())), "docs/errors.md has no `{}`", reason.as_str());
    }
}

#[test]
fn links_have_targets() {
    let (mut followed, mut places) = (0, 0);
    for (path, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            if target.contains("://") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: `{target}`", path.display());
            followed += 1;
            if !place.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#')) == place),
                    "{}: `{target}`",
                    path.display()
                );
                places += 1;
            }
        }
    }
    assert!(followed > 40 && places > 10, "{followed} links, {places} of them to a heading");
}

#[test]
fn commands_have_the_options_that_pages_give_them() {
    let program = Cli::command();
    let global: BTreeSet<&str> = program.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let mut checked = 0;
    for (path, text) in pages().into_iter().chain(scripts()) {
        // A backslash continues a command in the next line.
        let text = text.replace("\\\n", " ");
        for command in text.lines().flat_map(|line| line.split("quarry ").skip(1)) {
            let command = command.split(['`', '#', '|']).next().unwrap_or_default();
            let mut words = command.split_whitespace();
            let Some(verb) = words.next().and_then(|verb| program.find_subcommand(verb)) else { continue };
            let known: BTreeSet<&str> = verb.get_arguments().filter_map(|argument| argument.get_long()).collect();
            let words: Vec<&str> = words.collect();
            // What stands behind `--` are the options of another program.
            for (at, word) in words.iter().enumerate().take_while(|(_, word)| **word != "--") {
                let Some(word) = word.trim_start_matches(['[', '(']).strip_prefix("--") else { continue };
                let option: String =
                    word.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect();
                if option.is_empty() {
                    continue;
                }
                let there = known.contains(option.as_str()) || global.contains(option.as_str()) || option == "help";
                assert!(there, "{}: `quarry {}` has no --{option}", path.display(), verb.get_name());
                if option == "graph" {
                    let export = ["quarry", "export", "CHECKPOINT", "OUT", "--graph", words[at + 1]];
                    assert!(
                        Cli::try_parse_from(export).is_ok(),
                        "{}: there is no graph {}",
                        path.display(),
                        words[at + 1]
                    );
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked}");
}
