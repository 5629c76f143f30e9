//! Finds and loads the experiment file.

use std::path::{Path, PathBuf};

use super::args::FileArgs;
use super::{Failed, terminal};
use crate::config;
use crate::config::plan::Plan;
use crate::engine::Replay;
use crate::experiment::read_journal;

/// Finds, reads and checks the file; warnings go to stderr.
pub(crate) fn load(args: &FileArgs) -> Result<Plan, Failed> {
    find(args, &options(args))
}

/// The file with every fault in the shadow, where that is wished.
pub(crate) fn shadowed(args: &FileArgs, shadow: bool) -> FileArgs {
    let mut args = args.clone();
    if shadow {
        args.sets.push("safety.shadow=true".to_owned());
    }
    args
}

/// The journal that is to be replayed, with its name.
pub(crate) fn journal(path: Option<&Path>) -> Result<Option<(String, Replay)>, Failed> {
    let Some(path) = path else { return Ok(None) };
    let replay = read_journal(path).map_err(|error| Failed::usage(error.to_string()))?;
    Ok(Some((path.display().to_string(), replay)))
}

/// The same by the text alone: other files that it names need not be there.
pub(crate) fn load_text_alone(args: &FileArgs) -> Result<Plan, Failed> {
    find(args, &config::Options { text_alone: true, ..options(args) })
}

/// The file that `load` reads; None when the text comes from elsewhere.
pub(crate) fn path(args: &FileArgs) -> Option<PathBuf> {
    if let Some(path) = args.file.as_ref().or(args.config.as_ref()) {
        return Some(path.clone());
    }
    match std::env::var_os("BROWNOUT_CONFIG").filter(|value| !value.is_empty()) {
        Some(config) if is_text(&config.to_string_lossy()) => None,
        Some(config) => Some(config.into()),
        None => usual_file().ok(),
    }
}

/// Whether `$BROWNOUT_CONFIG` holds an experiment itself.
fn is_text(config: &str) -> bool {
    config.contains('\n') || config.trim_start().starts_with('{')
}

fn find(args: &FileArgs, options: &config::Options<'_>) -> Result<Plan, Failed> {
    if let Some(path) = args.file.as_ref().or(args.config.as_ref()) {
        return load_file(path, options);
    }
    if let Some(config) = std::env::var_os("BROWNOUT_CONFIG").filter(|value| !value.is_empty()) {
        let text = config.to_string_lossy();
        if is_text(&text) {
            return told(config::load("$BROWNOUT_CONFIG", &text, options));
        }
        return load_file(Path::new(&config), options);
    }
    load_file(&usual_file()?, options)
}

/// Checks a text that comes from no file.
pub(crate) fn load_text(name: &str, text: &str, args: &FileArgs) -> Result<Plan, Failed> {
    told(config::load(name, text, &options(args)))
}

fn load_file(path: &Path, options: &config::Options<'_>) -> Result<Plan, Failed> {
    told(config::load_file(path, options))
}

fn options(args: &FileArgs) -> config::Options<'_> {
    config::Options {
        profile: args.profile.as_deref(),
        sets: &args.sets,
        environment: &|name| std::env::var(name).ok(),
        ..config::Options::default()
    }
}

fn told(loaded: Result<config::Loaded, config::Diagnostics>) -> Result<Plan, Failed> {
    let loaded = loaded.map_err(|diagnostics| Failed::usage(diagnostics.to_string()))?;
    let warnings = loaded.warnings.to_string();
    if !warnings.trim().is_empty() {
        terminal::note(warnings.trim_end());
    }
    Ok(loaded.plan)
}

fn usual_file() -> Result<PathBuf, Failed> {
    let usual = Path::new("brownout.yaml");
    if usual.exists() {
        return Ok(usual.to_path_buf());
    }
    let mut hidden = hidden_files();
    match hidden.len() {
        0 => Err(Failed::usage(
            "there is no experiment file: no FILE was named, $BROWNOUT_CONFIG is not set, and neither \
             ./brownout.yaml nor ./.brownout/*.yaml is there\n  = hint: `brownout init` writes a first one",
        )),
        1 => Ok(hidden.remove(0)),
        _ => {
            let names: Vec<String> = hidden.iter().map(|path| path.display().to_string()).collect();
            Err(Failed::usage(format!("which file? name one of {}", names.join(", "))))
        }
    }
}

fn hidden_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(".brownout")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"))
        .collect();
    files.sort();
    files
}
