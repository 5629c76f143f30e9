//! Files as people have them: where they are found, what is said about them, and that nothing that
//! cannot work is begun.

use tokio::process::Command;

use super::app::{App, experiment, free_port};
use super::command::{Ended, Folder, Started, brownout, ended};
use super::control::Served;
use super::runs::run;
use crate::raw::{connect, finish};

const SMALL: &str = "version: 1\nname: small\ndependencies: { llm: { kind: openai, listen: 0, simulate: true } }\n\
    faults: { err: { target: llm, percent: 5, error: { status: 500 } } }\n\
    profiles: { harsh: { faults: { err: { percent: 90 } } } }\n";

async fn check(folder: &Folder, arguments: &[&str]) -> Ended {
    ended(in_folder(folder, arguments)).await
}

fn in_folder(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = brownout(&["check", "--offline"]);
    command.args(arguments).current_dir(folder.path());
    command
}

#[tokio::test]
async fn a_file_is_found_where_people_put_it() {
    let folder = Folder::new();
    let nothing = check(&folder, &[]).await;
    nothing.expect(2, &["there is no experiment file", "`brownout init` writes a first one"]);

    std::fs::create_dir(folder.path().join(".brownout")).unwrap();
    folder.write(".brownout/one.yaml", &SMALL.replace("err:", "hidden:"));
    check(&folder, &[]).await.expect(0, &["hidden"]);
    folder.write(".brownout/two.yml", SMALL);
    check(&folder, &[]).await.expect(2, &["which file? name one of", "one.yaml", "two.yml"]);
    folder.write("brownout.yaml", &SMALL.replace("err:", "usual:"));
    check(&folder, &[]).await.expect(0, &["usual"]);

    let named = folder.write("with spaces ü.yaml", &SMALL.replace("err:", "named:"));
    check(&folder, &[&named]).await.expect(0, &["named"]);
    check(&folder, &["-f", &named]).await.expect(0, &["named"]);
    let mut inline = in_folder(&folder, &[]);
    inline.env("BROWNOUT_CONFIG", SMALL.replace("err:", "inline:"));
    ended(inline).await.expect(0, &["$BROWNOUT_CONFIG", "inline"]);
    let mut path = in_folder(&folder, &[]);
    path.env("BROWNOUT_CONFIG", &named);
    ended(path).await.expect(0, &["named"]);
    let mut both = in_folder(&folder, &["brownout.yaml"]);
    both.env("BROWNOUT_CONFIG", &named);
    ended(both).await.expect(0, &["usual"]);
    let mut wrong = in_folder(&folder, &[]);
    wrong.env("BROWNOUT_CONFIG", "version: 1\ndependencies: 3\n");
    ended(wrong).await.expect(2, &["$BROWNOUT_CONFIG:2:15"]);
}

#[tokio::test]
async fn profiles_and_settings_change_a_file() {
    let folder = Folder::new();
    let file = folder.write("brownout.yaml", SMALL);
    check(&folder, &[&file]).await.expect(0, &["5 %"]);
    check(&folder, &[&file, "--profile", "harsh"]).await.expect(0, &["90 %"]);
    check(&folder, &[&file, "--set", "faults.err.percent=33"]).await.expect(0, &["33 %"]);
    let both = ["--profile", "harsh", "--set", "faults.err.percent=12"];
    let mut both = in_folder(&folder, &both);
    ended({
        both.arg(&file);
        both
    })
    .await
    .expect(0, &["12 %"]);
    check(&folder, &[&file, "--profile", "harhs"])
        .await
        .expect(2, &["no profile `harhs`", "harsh"]);
    check(&folder, &[&file, "--set", "faults.er.percent=1"])
        .await
        .expect(2, &["--set faults.er.percent=1"]);
    let json = check(&folder, &[&file, "--json", "--out", &folder.at("c")]).await.json();
    assert_eq!(json["valid"], true);
    assert_eq!(folder.json("c/check.json"), json);
}

#[tokio::test]
async fn init_writes_a_file_that_checks() {
    let folder = Folder::new();
    let init = || {
        let mut init = brownout(&["init"]);
        init.current_dir(folder.path())
            .env("OPENAI_API_KEY", "sk-planted")
            .env("QDRANT_URL", "http://q:6333");
        init
    };
    ended(init()).await.expect(0, &["found OPENAI_API_KEY, QDRANT_URL", "next: brownout check"]);
    assert!(!folder.read("brownout.yaml").contains("planted"));
    check(&folder, &[]).await.expect(0, &["2 dependencies"]);
    ended(init()).await.expect(2, &["is there already; --force overwrites it"]);
    let mut demo = brownout(&["demo", "--print"]);
    demo.current_dir(folder.path());
    let printed = ended(demo).await;
    let file = folder.write("demo.yaml", &printed.out);
    check(&folder, &[&file]).await.expect(0, &["3 dependencies"]);
}

#[tokio::test]
async fn examples_keep_to_the_printed_schema() {
    let schema = jsonschema::validator_for(&ended(brownout(&["schema"])).await.json()).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in ["demo.yaml", "full.yaml", "short.yaml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert!(schema.is_valid(&value), "{name}");
    }
    assert!(!schema.is_valid(&serde_json::json!({ "version": 1, "dependencys": {} })));
}

#[tokio::test]
async fn odd_files_are_read_or_refused_in_words() {
    let folder = Folder::new();
    let bytes = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.at(name)
    };
    let crlf = bytes("crlf.yaml", SMALL.replace('\n', "\r\n").as_bytes());
    let mark = bytes("mark.yaml", &[b"\xef\xbb\xbf", SMALL.as_bytes()].concat());
    let names =
        bytes("names.yaml", SMALL.replace("llm", "モデル").replace("err:", "störung:").as_bytes());
    for good in [&crlf, &mark, &names] {
        check(&folder, &[good]).await.expect(0, &["1 dependency, 1 fault"]);
    }
    let noise: Vec<u8> =
        (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (file, words) in [
        (bytes("noise.yaml", &noise), "it is no UTF-8 text"),
        (bytes("nul.yaml", b"\0\0version: 1"), "this is no valid YAML"),
        (bytes("empty.yaml", b""), "the file is empty"),
        (bytes("list.yaml", b"- 1\n- 2\n"), "an experiment is a map of keys"),
        (folder.at("gone.yaml"), "there is no such file"),
        (folder.at("."), "it is a folder"),
        (crlf.replace("crlf", "wrong"), "there is no such file"),
    ] {
        let over = check(&folder, &[&file]).await;
        over.expect(2, &[words]);
        assert!(over.out.is_empty(), "{}", over.said());
    }
    let typo =
        bytes("typo.yaml", SMALL.replace("target", "tarket").replace('\n', "\r\n").as_bytes());
    check(&folder, &[&typo]).await.expect(2, &["typo.yaml:4:18", "did you mean `target`?"]);
}

#[tokio::test]
async fn prompts_that_are_not_there_are_a_warning_offline_alone() {
    let folder = Folder::new();
    let rest = "phases: [{ name: a, duration: 1s }]\nexpect: [success_rate > 1%]\n";
    let text = experiment("http://127.0.0.1:1", free_port(), rest)
        .replace("  timeout", "  prompts: { file: many.jsonl }\n  timeout");
    let file = folder.write("brownout.yaml", &text);
    check(&folder, &[&file]).await.expect(0, &["warning: the prompt file `many.jsonl`"]);
    ended(brownout(&["check", &file])).await.expect(2, &["error: the prompt file `many.jsonl`"]);
    ended(run(&folder, &text, &[])).await.expect(2, &["error: the prompt file `many.jsonl`"]);
    let line = |n: u32| format!("{{\"text\": \"question {n} about ü\", \"topic\": \"t\"}}\r\n");
    folder.write("many.jsonl", &(0..10_000).map(line).collect::<String>());
    check(&folder, &[&file]).await.expect(0, &["10000 prompts"]);
}

#[tokio::test]
async fn a_run_that_cannot_work_is_not_begun() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let rest = "phases: [{ name: a, duration: 60s }]\nexpect: [success_rate > 1%]\n";
    let text = experiment("http://127.0.0.1:1", port, rest);
    std::fs::create_dir(folder.path().join("out")).unwrap();
    folder.write("out/decisions.jsonl", "kept\n");
    let over = ended(run(&folder, &text, &[])).await;
    over.expect(3, &[&format!("`llm` cannot listen on 127.0.0.1:{port}: the port is taken")]);
    assert_eq!(folder.read("out/decisions.jsonl"), "kept\n", "another run's journal stays");

    let text = experiment("http://127.0.0.1:1", free_port(), rest);
    folder.write("brownout.yaml", &text);
    folder.write("a-file", "");
    for place in [folder.at("a-file"), folder.at("a-file/deeper"), "/proc/nothing".to_owned()] {
        let file = folder.at("brownout.yaml");
        let over = ended(brownout(&["run", &file, "--out", &place])).await;
        over.expect(3, &["cannot be written"]);
    }
    std::fs::create_dir_all(folder.path().join("odd/results.json")).unwrap();
    let file = folder.at("brownout.yaml");
    let over = ended(brownout(&["run", &file, "--out", &folder.at("odd")])).await;
    over.expect(3, &["results.json` cannot be written: is a directory"]);
    let over =
        ended(brownout(&["run", &file, "--app", "http://8.8.8.8/", "--out", &folder.at("o")]))
            .await;
    over.expect(
        2,
        &["the app at 8.8.8.8 is outside loopback and private networks", "--allow-public"],
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_costs_the_exit_code_but_not_the_summary() {
    let rest = "faults: { err: { target: llm, percent: 50, error: { status: 503 } } }\n\
        phases: [{ name: a, duration: 1s, faults: [err] }]\nexpect: [success_rate > 1%]\n";
    let full = async |name: &str| {
        let (folder, port) = (Folder::new(), free_port());
        let app = App::asking(port).await;
        std::fs::create_dir(folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("out").join(name)).unwrap();
        ended(run(&folder, &experiment(&app.url(), port, rest), &[])).await
    };
    let (journal, report) = tokio::join!(full("decisions.jsonl"), full("report.html.part"));
    journal.expect(3, &["PASS", "the decision journal broke off: No space left"]);
    report.expect(3, &["PASS", "report.html` cannot be written: No space left"]);
}

#[tokio::test]
async fn results_go_where_they_are_told_to() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let rest = "phases: [{ name: a, duration: 1s }]\nexpect: [success_rate > 1%]\n\
        outputs: { dir: \"a folder/über\", json: r.json, html: r.html, junit: j.xml, decisions: d.jsonl }\n";
    let file = folder.write("brownout.yaml", &experiment(&app.url(), port, rest));
    let mut command = brownout(&["run", &file]);
    command.current_dir(folder.path());
    ended(command).await.expect(0, &["r.html"]);
    for name in ["r.json", "r.html", "j.xml", "d.jsonl"] {
        assert!(folder.path().join("a folder/über").join(name).is_file(), "{name}");
    }
    let files = folder.files().len();
    assert_eq!(files, 5, "nothing else is left: {:?}", folder.files());
}

#[tokio::test]
async fn version_six_and_unknown_hosts_are_served() {
    let sim = brownout(&["sim", "--listen", "[::1]:0", "--model", "instant", "--print", "json"]);
    let mut sim = Started::new(sim);
    let told: serde_json::Value = serde_json::from_str(&sim.line().await).unwrap();
    let upstream = told["listen"].as_str().unwrap();
    assert!(upstream.starts_with("http://[::1]:"), "{upstream}");
    let text = format!(
        "version: 1\ndependencies:\n  six: {{ kind: openai, listen: \"[::1]:0\", upstream: \"{upstream}\" }}\n  \
         unknown: {{ kind: openai, listen: 0, upstream: \"https://nobody.invalid/v1\" }}\n"
    );
    let served = Served::start(&text, &[]).await;
    assert!(served.address("six").is_ipv6());
    let answer = finish(connect(served.address("six"), "GET", "/v1/models", "").await).await;
    assert_eq!(answer.status, 200);
    let answer = finish(connect(served.address("unknown"), "GET", "/models", "").await).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("upstream unknown (nobody.invalid:443) cannot be resolved"),
        "{}",
        answer.text()
    );
    served.end().await;
    let folder = Folder::new();
    let file = folder.write("brownout.yaml", &text);
    let over = ended(brownout(&["check", &file])).await;
    over.expect(0, &["✓ answers", "✗ nobody.invalid"]);
}
