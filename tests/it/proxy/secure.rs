//! TLS on both sides of the proxy, with real clients and servers.

mod clients;
mod faults;
mod listen;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use brownout::dialect;
use brownout::engine::{Arming, Engine, Rule, Selector, Tally};
use brownout::fault::KINDS;
use brownout::measure::{Recorder, Tap};
use brownout::net::ca::Authority;
use brownout::net::{Clock, RealClock};
use brownout::proxy::{self, ListenTls, Listener, Options, Proxy, Running};
use brownout::units::Ramp;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::kit::{Upstream, soon};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\nb: 2\r\nx-a: 3\r\nContent-Length: 6\r\n\r\nsecret";
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A proxy that an app reaches over TLS, with one fault named `test`.
struct Secured {
    address: SocketAddr,
    authority: Authority,
    dir: TempDir,
    engine: Arc<Engine>,
    tap: Tap,
    journal: Tap,
    upstream: Upstream,
    running: Running,
}

impl Secured {
    /// With minted certificates and this effect, `tls`, `{ mode: refuse }`.
    async fn minted(effect: (&'static str, &str)) -> Self {
        Self::of(Some(ListenTls::Minted), effect, 100.0).await.unwrap()
    }

    async fn of(
        tls: Option<ListenTls>,
        (key, options): (&'static str, &str),
        percent: f64,
    ) -> Result<Self, proxy::Error> {
        let upstream = Upstream::answering(ANSWER).await;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        let url = format!("http://{}", upstream.address).parse().unwrap();
        let mut listener = Listener::new("llm", dialect::by_kind("openai").unwrap(), url);
        listener.tls = tls;
        let kind = KINDS.iter().find(|kind| kind.name == key).unwrap();
        let fault = (kind.try_build)(serde_yaml::from_str(options).unwrap()).unwrap();
        let rule = Rule {
            name: "test".into(),
            targets: vec!["llm".into()],
            target_text: "llm".to_owned(),
            selector: Selector::default(),
            percent: Ramp { from: percent, to: percent },
            effects: vec![(key, fault)],
            ..Rule::default()
        };
        let (recorder, tap) = Recorder::channel(10_000);
        let (decisions, journal) = Recorder::channel(10_000);
        let engine = Arc::new(Engine::new(7, vec![rule], decisions));
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let options = Options { ca_dir: Some(dir.path().to_owned()), ..Options::default() };
        let running =
            Proxy::start(vec![listener], Arc::clone(&engine), recorder, clock, options).await?;
        let address = running.address("llm").unwrap();
        Ok(Self { address, authority, dir, engine, tap, journal, upstream, running })
    }

    fn arm(&self) {
        self.engine.arm("test", Arming::default()).unwrap();
    }

    fn tally(&self) -> Tally {
        self.engine.tallies().remove(0).1
    }

    /// The settings of a client that trusts the authority.
    fn client(&self) -> Arc<ClientConfig> {
        trusting([self.authority.certificate().clone()])
    }

    async fn connect(
        &self,
        client: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.address, client, name).await
    }
}

pub(crate) fn trusting(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Arc::new(
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth(),
    )
}

pub(crate) async fn connect(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::clone(client)).connect(name, tcp)).await
}

/// Sends a request and reads the answer, which must be the upstream's, byte for byte.
async fn exchange(tls: &mut TlsStream<TcpStream>) {
    tls.write_all(ASK).await.unwrap();
    let mut answer = vec![0; ANSWER.len()];
    soon(tls.read_exact(&mut answer)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(ANSWER));
}

/// What rustls says was wrong.
fn reason(error: &std::io::Error) -> &rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("{error}"))
}

/// Writes a PEM file.
fn write(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}
