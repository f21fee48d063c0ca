//! The prompt of `flowsigma sql`.
//!
//! Owns: reading lines, the history and the loop. Must not know: how a statement is run.

use crate::failure::Failure;
use crate::output::Format;
use crate::run::Runner;
use crate::statement;
use etcetera::BaseStrategy;
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};
use std::path::PathBuf;

const GREETING: &str = "Statements end with a semicolon. SHOW TABLES lists tables; Ctrl-C cancels a \
                        statement, Ctrl-D or \\q leaves.";

/// Reads statements and runs them until the input ends. It prints the error of a failed one and goes on.
pub(crate) async fn serve(runner: &Runner, format: Format) -> Result<(), Failure> {
    // The prompt goes to the terminal itself: stdout may be a file, which only gets rows.
    let on_the_terminal = Config::builder().behavior(Behavior::PreferTerm).build();
    let mut editor = DefaultEditor::with_config(on_the_terminal).map_err(anyhow::Error::from)?;
    let history = history_file();
    if let Some(path) = &history {
        // The file does not exist before the first session.
        editor.load_history(path).ok();
    }
    eprintln!("{GREETING}");
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { "flowsigma> " } else { "        -> " };
        let read;
        (editor, read) = tokio::task::spawn_blocking(move || {
            let read = editor.readline(prompt);
            (editor, read)
        })
        .await
        .map_err(anyhow::Error::from)?;
        match read {
            Ok(line) if text.is_empty() && matches!(line.trim(), "\\q" | "quit" | "exit") => break,
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(anyhow::Error::from(e).into()),
        }
        if text.trim().is_empty() {
            text.clear();
        } else if text.trim_end().ends_with(';') {
            let statement = std::mem::take(&mut text);
            editor.add_history_entry(statement.trim()).map_err(anyhow::Error::from)?;
            match run_all(runner, &statement, format).await {
                Ok(()) => {}
                Err(Failure::Unread) => return Err(Failure::Unread),
                Err(failure) => failure.tell(),
            }
        }
    }
    if let Some(path) = &history {
        save(&mut editor, path);
    }
    Ok(())
}

async fn run_all(runner: &Runner, text: &str, format: Format) -> Result<(), Failure> {
    for statement in statement::parse(text)? {
        statement::run(runner, statement, format).await?;
    }
    Ok(())
}

/// Returns `flowsigma/history` in the user's state folder, or in the data folder on systems without one.
fn history_file() -> Option<PathBuf> {
    let folders = etcetera::choose_base_strategy().ok()?;
    let folder = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Some(folder.join("flowsigma").join("history"))
}

fn save(editor: &mut DefaultEditor, path: &PathBuf) {
    let saved = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .map_err(ReadlineError::from)
        .and_then(|()| editor.save_history(path));
    if let Err(e) = saved {
        eprintln!("cannot write the history to {}: {e}", path.display());
    }
}
