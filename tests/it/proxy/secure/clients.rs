//! Programs that people really use, where this machine has them.

use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{Secured, soon};

/// Runs a program to its end; None, said aloud, when there is none of that name.
async fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("SSL_CERT_FILE").envs(environment.iter().copied());
    match soon(command.output()).await {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no `{program}` on this machine");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}\n{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Python's strictest verification, by name.
const PYTHON: &str = "
import http.client, ssl, sys
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
connection = http.client.HTTPSConnection('localhost', int(sys.argv[1]), context=context)
connection.request('GET', '/')
print(connection.getresponse().read().decode())
";

const NODE: &str = "
const https = require('node:https');
https.get({ host: 'localhost', port: process.argv[1], path: '/' }, (answer) => {
  answer.on('data', (data) => console.log(data.toString()));
}).on('error', (error) => { console.log(error.code); process.exitCode = 1; });
";

#[tokio::test]
async fn real_clients_trust_the_authority_when_they_are_told_to() {
    let secured = Secured::minted(("tls", "{ mode: expired }")).await;
    let port = secured.address.port().to_string();
    let url = format!("https://localhost:{port}/");
    let ca = secured.authority.certificate_path().display().to_string();
    let bundle = secured.dir.path().join("bundle.pem");
    std::fs::write(&bundle, secured.authority.bundle()).unwrap();
    let bundle = bundle.display().to_string();
    let trust = [("SSL_CERT_FILE", bundle.as_str()), ("CURL_CA_BUNDLE", &bundle)];
    let node = [("NODE_EXTRA_CA_CERTS", ca.as_str())];
    let brief = format!("localhost:{port}");
    let openssl =
        ["s_client", "-connect", &brief, "-servername", "localhost", "-verify_return_error"];

    for round in ["trusted", "distrusted", "expired"] {
        let none: [(&str, &str); 0] = [];
        let (plain, own) = match round {
            "distrusted" => (&none[..], &none[..]),
            _ => (&trust[..], &node[..]),
        };
        if round == "expired" {
            secured.arm();
        }
        let good = round == "trusted";
        if let Some(output) = run("curl", &["-sS", "--max-time", "8", &url], plain).await {
            assert_eq!(output.status.success(), good, "{round}: {}", said(&output));
            let word = match round {
                "trusted" => "secret",
                "distrusted" => "certificate",
                _ => "expired",
            };
            assert!(said(&output).contains(word), "{round}: {}", said(&output));
        }
        if let Some(output) = run("python3", &["-c", PYTHON, &port], plain).await {
            let word = match round {
                "trusted" => "secret",
                "distrusted" => "CERTIFICATE_VERIFY_FAILED",
                _ => "certificate has expired",
            };
            assert!(said(&output).contains(word), "{round}: {}", said(&output));
        }
        if let Some(output) = run("node", &["-e", NODE, &port], own).await {
            let word = match round {
                "trusted" => "secret",
                "distrusted" => "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
                _ => "CERT_HAS_EXPIRED",
            };
            assert!(said(&output).contains(word), "{round}: {}", said(&output));
        }
        if let Some(output) = run("openssl", &openssl, plain).await {
            let word = match round {
                "trusted" => "Verify return code: 0 (ok)",
                "distrusted" => "unable to get local issuer certificate",
                _ => "certificate has expired",
            };
            assert!(said(&output).contains(word), "{round}: {}", said(&output));
        }
    }
}
