//! Finds and loads the experiment file.

use std::path::{Path, PathBuf};

use super::args::FileArgs;
use super::{Failed, terminal};
use crate::config;
use crate::config::plan::Plan;

/// Where the text came from.
struct Source {
    /// As shown in messages.
    name: String,
    text: String,
    /// What relative paths in it are relative to.
    folder: PathBuf,
}

/// Finds, reads and checks the file; warnings go to stderr.
pub(crate) fn load(args: &FileArgs) -> Result<Plan, Failed> {
    let source = find(args)?;
    load_text(&source.name, &source.text, &source.folder, args)
}

/// Checks a text.
pub(crate) fn load_text(
    name: &str,
    text: &str,
    folder: &Path,
    args: &FileArgs,
) -> Result<Plan, Failed> {
    let options = config::Options {
        profile: args.profile.clone(),
        sets: args.sets.clone(),
        base_dir: folder.to_path_buf(),
        ..config::Options::default()
    };
    match config::load(name, text, &options) {
        Ok(loaded) => {
            let warnings = loaded.warnings.to_string();
            if !warnings.is_empty() {
                terminal::note(warnings.trim_end());
            }
            Ok(loaded.plan)
        }
        Err(diagnostics) => Err(Failed::usage(diagnostics.to_string())),
    }
}

fn find(args: &FileArgs) -> Result<Source, Failed> {
    if let Some(path) = args.file.as_ref().or(args.config.as_ref()) {
        return read(path);
    }
    if let Some(config) = std::env::var_os("BROWNOUT_CONFIG").filter(|value| !value.is_empty()) {
        let text = config.to_string_lossy();
        if text.contains('\n') || text.trim_start().starts_with('{') {
            let folder = std::env::current_dir().unwrap_or_default();
            return Ok(Source {
                name: "$BROWNOUT_CONFIG".to_owned(),
                text: text.into_owned(),
                folder,
            });
        }
        return read(Path::new(&config));
    }
    let usual = Path::new("brownout.yaml");
    if usual.exists() {
        return read(usual);
    }
    match hidden_files().as_slice() {
        [one] => read(one),
        [] => Err(Failed::usage(
            "there is no experiment file: no FILE was named, $BROWNOUT_CONFIG is not set, and neither \
             ./brownout.yaml nor ./.brownout/*.yaml is there\n  = hint: `brownout init` writes a first one",
        )),
        several => {
            let names: Vec<String> =
                several.iter().map(|path| path.display().to_string()).collect();
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

fn read(path: &Path) -> Result<Source, Failed> {
    let text = config::read_file(path).map_err(Failed::usage)?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Source { name: path.display().to_string(), text, folder })
}
