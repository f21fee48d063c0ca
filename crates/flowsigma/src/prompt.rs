//! The prompt of `flowsigma sql`.
//!
//! Owns: lines, history and the loop. Must not know: how a statement is run.

use crate::failure::Failure;
use crate::output::Format;
use crate::run::Runner;
use crate::statement;
use etcetera::BaseStrategy;
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};
use std::path::PathBuf;

const GREETING: &str = "Statements end with a semicolon. SHOW TABLES lists tables; Ctrl-C gives up a \
                        statement, Ctrl-D or \\q leaves.";

/// Reads statements and runs them until the input ends. A failed one is told, and the next is read.
pub(crate) async fn serve(runner: &Runner, format: Format) -> Result<(), Failure> {
    // The terminal itself: stdout may be a file, for rows alone.
    let on_the_terminal = Config::builder().behavior(Behavior::PreferTerm).build();
    let mut editor = DefaultEditor::with_config(on_the_terminal).map_err(anyhow::Error::from)?;
    let history = history_file();
    if let Some(path) = &history {
        // There is none before the first time.
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

/// `flowsigma/history` in the user's state folder, or in that for data where there is none.
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
        eprintln!("the history could not be kept in {}: {e}", path.display());
    }
}
