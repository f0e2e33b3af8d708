//! Completions and manual pages, checked by shells and a manual reader.

use std::process::{Command, Stdio};

use crate::support::Dir;

/// Whether a program is on this machine; prints a note if not.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: there is no `{program}` on this machine");
    }
    found
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = Dir::new();
    if !there("bash") {
        return;
    }
    let script = dir.quarry(&["completions", "bash"]).ended(0).stdout();
    dir.write("quarry.bash", &script);
    let complete = |words: &str| {
        let ask = format!(
            "source quarry.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _quarry quarry \"${{COMP_WORDS[-1]}}\" quarry; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["-c", &ask]).current_dir(dir.path("")).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("quarry doc"), "doctor");
    assert_eq!(complete("quarry run --met"), "--metrics-file");
}

#[test]
fn every_shell_has_a_script() {
    let dir = Dir::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = dir.quarry(&["completions", shell]).ended(0).stdout();
        assert!(script.contains("quarry") && script.contains("metrics-file"), "{shell}");
        let file = dir.write(&format!("quarry.{shell}"), &script).display().to_string();
        if ["bash", "fish", "zsh"].contains(&shell) && there(shell) {
            let output = Command::new(shell).args(["-n", &file]).output().unwrap();
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn every_command_has_a_page() {
    let dir = Dir::new();
    dir.quarry(&["man", "pages"]).ended(0);
    let mut pages: Vec<String> = std::fs::read_dir(dir.path("pages"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    pages.sort();
    assert!(pages.contains(&"quarry.1".to_owned()) && pages.contains(&"quarry-run.1".to_owned()), "{pages:?}");
    assert!(!pages.iter().any(|page| page.contains("probe")), "{pages:?}");
    let run = std::fs::read_to_string(dir.path("pages/quarry-run.1")).unwrap();
    assert!(run.contains(r"\-\-metrics\-file") && run.contains("quarry run"), "{run}");
    if !there("groff") {
        return;
    }
    for page in pages {
        let path = dir.path("pages").join(&page);
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(&path).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{page}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
