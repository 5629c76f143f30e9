//! Instructions of what an exchange pays, counted by valgrind: the same on any day and under any
//! load, so that a regression shows. `cargo bench --bench instructions [PART OF A NAME]`

mod cases;

use std::process::Command;

/// Enough that what happens once does not count.
const TIMES: u64 = 200;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [mark, name, times] if mark == "--case" => {
            let times = times.parse().expect("a number of times");
            let (_, mut act) =
                cases::all().into_iter().find(|case| case.0 == *name).expect("the case exists");
            (0..times).for_each(|_| act());
        }
        words => {
            let wanted = words.iter().find(|word| !word.starts_with("--"));
            for (name, _) in cases::all() {
                if wanted.is_none_or(|part| name.contains(part.as_str())) {
                    match (counted(&name, 3 * TIMES), counted(&name, TIMES)) {
                        (Some(more), Some(less)) => {
                            println!("{name:<45} {:>10}", more.saturating_sub(less) / (2 * TIMES));
                        }
                        _ => return println!("not counted: there is no valgrind"),
                    }
                }
            }
        }
    }
}

/// The instructions of a process that does a case so many times.
fn counted(name: &str, times: u64) -> Option<u64> {
    let itself = std::env::current_exe().ok()?;
    let run = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(itself)
        .args(["--case", name, &times.to_string()])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&run.stderr);
    let line = told.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:"))?;
    line.rsplit(' ').next()?.replace(',', "").parse().ok()
}
