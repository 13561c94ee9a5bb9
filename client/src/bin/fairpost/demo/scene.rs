//! Runs the commands of the story before the reader's eyes, and holds what they do against what was expected.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::nodes::{beside, without_settings};
use crate::show::print;

/// The folder where it plays.
pub(super) struct Scene {
    pub(super) folder: PathBuf,
}

impl Scene {
    /// Says something to the reader.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        print(&format!("{}\n", wrapped(text)))
    }

    /// Shows lines as they are.
    pub(super) fn list(&self, lines: &str) -> anyhow::Result<()> {
        print(lines)
    }

    /// Begins a part of the story.
    pub(super) fn part(&self, title: &str) -> anyhow::Result<()> {
        print(&format!("\n── {title} {}\n\n", "─".repeat(94_usize.saturating_sub(title.chars().count()))))
    }

    /// Runs a command line before the reader's eyes: a program beside this one and its arguments, perhaps `> FILE` at the
    /// end, in the scene's folder. Fails if it does not exit with `code`. Gives its standard output.
    pub(super) async fn run(&self, code: i32, line: &str) -> anyhow::Result<String> {
        print(&format!("    $ {line}\n"))?;
        let output = self.output(line).await?;
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for row in said.lines().chain(told.lines()) {
            print(&if row.is_empty() { "\n".to_owned() } else { format!("      {row}\n") })?;
        }
        let found = output.status.code();
        if code != 0 {
            print(&format!(
                "      (exit code {})\n",
                found.map_or("none".to_owned(), |code| code.to_string())
            ))?;
        }
        print("\n")?;
        ensure!(found == Some(code), "expected exit code {code} from: {line}\nbut found: {}", output.status);
        Ok(said.into_owned())
    }

    /// Runs a command line unseen, which must exit with 0. Gives its standard output.
    pub(super) async fn run_quietly(&self, line: &str) -> anyhow::Result<String> {
        let output = self.output(line).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "expected exit code 0 from: {line}\nbut found: {}\n{told}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command line unseen. Gives its standard output if it exits with 0.
    pub(super) async fn try_quietly(&self, line: &str) -> anyhow::Result<Option<String>> {
        let output = self.output(line).await?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    async fn output(&self, line: &str) -> anyhow::Result<Output> {
        let (line, file) = line.split_once(" > ").map_or((line, None), |(line, file)| (line, Some(file)));
        let mut words = line.split_whitespace();
        let program = beside(words.next().unwrap_or_default())?;
        let mut command = std::process::Command::new(&program);
        without_settings(command.args(words).current_dir(&self.folder).stdin(Stdio::null()));
        if let Some(file) = file {
            command.stdout(File::create(self.path(file)).with_context(|| file.to_owned())?);
        } else {
            command.stdout(Stdio::piped());
        }
        let running = Command::from(command).stderr(Stdio::piped()).kill_on_drop(true).spawn();
        let ended = running.with_context(|| program.display().to_string())?.wait_with_output().await;
        ended.with_context(|| program.display().to_string())
    }

    /// A file of the scene.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Writes a file.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    /// The path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `text` in lines of at most 98 characters.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 98 {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        let text = wrapped(&format!("{}\n\nend", "word ".repeat(40)));
        assert!(text.lines().all(|line| line.chars().count() <= 98));
        assert_eq!(text.split_whitespace().count(), 41);
        assert!(text.ends_with("word\n\nend\n"));
    }
}
