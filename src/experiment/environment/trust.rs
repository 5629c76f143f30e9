//! What makes an app trust the certificates that we show it: one file with the roots of the system
//! and our authority, the same for Java, and the variables by which clients find them.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Environment, Variable, Variables, truststore};

/// They name a file that replaces the client's roots, or (Node, Deno) that adds to them.
const NAMES: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
];

const BUNDLE: &str = "bundle.pem";
const TRUSTSTORE: &str = "truststore.p12";
const NODE_HOOK: &str = "node-proxy.cjs";

/// The files that apps read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    dir: PathBuf,
    bundle: PathBuf,
    truststore: PathBuf,
    node_hook: PathBuf,
}

impl Trust {
    /// Files that were written before.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            bundle: dir.join(BUNDLE),
            truststore: dir.join(TRUSTSTORE),
            node_hook: dir.join(NODE_HOOK),
        }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the files. `roots` are the system's roots and our authority, in PEM; what the
    /// environment makes apps trust already goes with them.
    pub fn write(dir: &Path, roots: &str, environment: &Environment) -> io::Result<Self> {
        let this = Self::at(dir);
        let mut bundle = roots.to_owned();
        let mut certificates = certificates(roots.as_bytes());
        for name in NAMES {
            let Some(path) = environment.get(*name).filter(|path| !path.is_empty()) else {
                continue;
            };
            if Path::new(path) == this.bundle {
                continue;
            }
            let Ok(pem) = std::fs::read_to_string(path) else {
                tracing::warn!("{name} names `{path}`, which cannot be read");
                continue;
            };
            let mut news = self::certificates(pem.as_bytes());
            news.retain(|one| !certificates.contains(one));
            if !news.is_empty() {
                bundle.push_str(&format!("\n# {path}\n{}\n", pem.trim()));
                certificates.append(&mut news);
            }
        }
        put(&this.bundle, bundle.as_bytes())?;
        put(&this.truststore, &truststore::pkcs12(&certificates))?;
        put(&this.node_hook, include_bytes!("node-proxy.cjs"))?;
        Ok(this)
    }

    /// The variables that name the bundle.
    pub(super) fn set(&self, variables: &mut Variables) {
        for name in NAMES {
            variables.set(Variable::new(*name, self.bundle.display().to_string()));
        }
    }

    /// Java's options.
    pub(super) fn java(&self) -> String {
        format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=PKCS12",
            quoted(&self.truststore)
        )
    }

    /// Node's options: a hook that sends Node versions which read no proxy variables through the
    /// gateway.
    pub(super) fn node(&self) -> String {
        format!("--require={}", quoted(&self.node_hook))
    }
}

/// A path as it stands among options that are parted by blanks.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    if path.contains(char::is_whitespace) { format!("\"{path}\"") } else { path }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// Replaces a file whole: an app may be reading it.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::File::create(&aside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::super::{Environment, Wiring};
    use super::*;

    fn pem(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn what_an_app_trusts_already_stays_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let corporate = dir.path().join("corporate.pem");
        let (ours, theirs) = (pem("ours"), pem("theirs"));
        std::fs::write(&corporate, &theirs).unwrap();
        let named = corporate.display().to_string();
        let environment: Environment = [
            ("REQUESTS_CA_BUNDLE".to_owned(), named.clone()),
            ("SSL_CERT_FILE".to_owned(), named),
            ("PIP_CERT".to_owned(), "/there/is/none".to_owned()),
        ]
        .into();
        let trust = Trust::write(dir.path(), &ours, &environment).unwrap();
        let bundle = std::fs::read_to_string(dir.path().join(BUNDLE)).unwrap();
        assert_eq!(certificates(bundle.as_bytes()).len(), 2, "each once");
        assert!(bundle.contains(theirs.trim()));
        // Again, with the variables that we set ourselves.
        let own = NAMES.iter().map(|name| ((*name).to_owned(), trust.bundle.display().to_string()));
        Trust::write(dir.path(), &ours, &own.collect()).unwrap();
        let again = std::fs::read_to_string(dir.path().join(BUNDLE)).unwrap();
        assert_eq!(certificates(again.as_bytes()).len(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "nothing else is left");
    }

    #[test]
    fn every_client_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::write(dir.path(), &pem("ours"), &Environment::new()).unwrap();
        let wiring = Wiring { trust: Some(&trust), ..Wiring::default() };
        let values = values(&wiring, &[("JAVA_TOOL_OPTIONS", "-Xmx1g")]);
        for name in NAMES {
            assert_eq!(values[*name], trust.bundle.display().to_string(), "{name}");
        }
        let java = &values["JAVA_TOOL_OPTIONS"];
        assert!(java.starts_with("-Xmx1g -Djavax.net.ssl.trustStore="), "{java}");
        assert!(!values.contains_key("NODE_OPTIONS"), "no gateway, no hook");
    }
}
