//! TLS towards an upstream: whom to trust, as whom to appear, and what went wrong in plain words.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{self, TrustError};
use super::connect::UpstreamTls;

/// Makes TLS of connections to one upstream; sessions are resumed.
pub(super) struct Client {
    connector: TlsConnector,
    /// In the place of the upstream's host.
    name: Option<ServerName<'static>>,
}

impl Client {
    /// For an upstream that is called so in the log.
    pub(super) fn new(upstream: &str, options: &UpstreamTls) -> Result<Self, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let name = options.server_name.clone().map(named).transpose()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if options.insecure {
            tracing::warn!(upstream, "any certificate is taken (`upstream_tls.insecure`)");
            let trusting = Trusting(provider.signature_verification_algorithms);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(trusting))
        } else {
            builder.with_root_certificates(roots(options)?)
        };
        let config = match &options.client {
            Some(pair) => {
                let own = SingleCertAndKey::from(pair.load()?);
                builder.with_client_cert_resolver(Arc::new(own))
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The handshake, offering these protocols; an error is in plain words.
    pub(super) async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => named(host.to_owned()).map_err(|error| error.to_string())?,
        };
        let protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let connecting = self.connector.with_alpn(protocols).connect(name, tcp);
        connecting.await.map_err(|error| plain(&error))
    }
}

fn named(name: String) -> Result<ServerName<'static>, Error> {
    let text = name.clone();
    let bad = |_| Error::General(format!("`{text}` is no name for a certificate"));
    ServerName::try_from(name).map_err(bad)
}

/// The system's roots (Mozilla's where it has none) and those of an extra file.
fn roots(options: &UpstreamTls) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::debug!(ignored, "the system has no root certificates; taking Mozilla's");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = &options.ca_file {
        for certificate in certificate::certificates(path)? {
            roots.add(certificate).map_err(|error| TrustError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(roots)
}

/// What a handshake failed for, if this is such an error.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match inner {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => {
            "it does not speak TLS; if it speaks plain HTTP, write http://".to_owned()
        }
        Error::PeerIncompatible(reason) => format!("it is too old or too strange: {reason:?}"),
        other => other.to_string(),
    })
}

fn plain(error: &io::Error) -> String {
    reason(error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection in mid-handshake".to_owned(),
        io::ErrorKind::ConnectionReset => "it reset the connection in mid-handshake".to_owned(),
        _ => error.to_string(),
    })
}

fn of_certificate(error: &CertificateError) -> String {
    use CertificateError as Bad;
    match error {
        Bad::Expired => "its certificate has expired".to_owned(),
        Bad::ExpiredContext { not_after, .. } => {
            format!("its certificate expired on {}", date(*not_after))
        }
        Bad::NotValidYet => "its certificate is not valid yet".to_owned(),
        Bad::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {} (is the clock right?)", date(*not_before))
        }
        Bad::UnknownIssuer => {
            "its certificate is from an authority that is not known here; if you trust it, name its \
             certificate in `upstream_tls.ca_file`"
                .to_owned()
        }
        Bad::NotValidForName => "its certificate is for another name".to_owned(),
        Bad::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            let expected = expected.to_str();
            format!(
                "its certificate is for {names}, not for {expected}; if that is right, say so with \
                 `upstream_tls.server_name`"
            )
        }
        Bad::Revoked => "its certificate was revoked".to_owned(),
        Bad::BadSignature => "its certificate's signature is wrong".to_owned(),
        Bad::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority (CA:TRUE), which signs others and names no \
             server; make it with `basicConstraints=CA:FALSE`, or take any with \
             `upstream_tls.insecure`"
                .to_owned()
        }
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// `DnsName("localhost")` without its wrapping.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    format!("`{}`", inner.unwrap_or(name).trim_matches('"'))
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => {
            "it asks for a certificate of ours; name one with `upstream_tls.client_cert` and \
             `client_key`"
                .to_owned()
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::AccessDenied => {
            format!("it does not take our certificate (`upstream_tls.client_cert`): {alert:?}")
        }
        Alert::NoApplicationProtocol => {
            "it speaks none of the versions of HTTP that it was offered; \
             see the dependency's `http`"
                .to_owned()
        }
        Alert::UnrecognisedName => {
            "it knows no host of that name; see `upstream_tls.server_name`".to_owned()
        }
        Alert::HandshakeFailure => {
            "it refused the handshake (no cipher in common, or it asks for a certificate of ours)"
                .to_owned()
        }
        Alert::ProtocolVersion => "it speaks no TLS 1.2 or 1.3".to_owned(),
        other => format!("it broke off with the alert {other:?}"),
    }
}

fn date(time: UnixTime) -> String {
    super::ca::date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// Takes any certificate; that the other side has its key is checked all the same.
#[derive(Debug)]
struct Trusting(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_certificates_are_read_without_their_wrapping() {
        assert_eq!(bare("DnsName(\"*.example.com\")"), "`*.example.com`");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "`127.0.0.1`");
        assert_eq!(bare("DirectoryName"), "`DirectoryName`");
    }
}
