//! Lists the ready-made faults: every file below `faults/` becomes one of `config::profile::PROFILES`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("faults");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    for folder in listed(&root)? {
        println!("cargo::rerun-if-changed={}", folder.display());
        files.extend(listed(&folder)?);
    }
    let mut text = String::from("&[\n");
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
        let name = file.strip_prefix(&root).unwrap_or(file).with_extension("");
        let name = name.to_string_lossy().replace('\\', "/");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    Profile {{ name: {name:?}, text: include_str!({file:?}) }},");
    }
    text.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("profiles.rs"), text)
}

/// What a folder holds, by name.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(folder)?.collect();
    let mut paths: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
