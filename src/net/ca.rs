//! The installation's own certificate authority: made on first use, kept in a directory of its own,
//! and the certificates that it makes for the names apps ask for. Its key never leaves the
//! directory, this process or any log.

mod store;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use time::OffsetDateTime;

use self::store::Pair;

/// So many leaves are kept.
const KEPT: usize = 1024;
const DAY: Duration = Duration::from_secs(86_400);
/// Clocks that are a little behind accept a leaf all the same.
const BACK: Duration = DAY;
/// Browsers and Apple's libraries refuse leaves of more than 398 days.
const AHEAD: Duration = Duration::from_secs(86_400 * 395);
/// What a certificate with the wrong name is for.
const WRONG_NAME: &str = "wrong-name.brownout.invalid";

/// An authority that cannot be used, or a certificate that it cannot make.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(
        "there is no place for the certificate authority: set `BROWNOUT_CA_DIR` to a directory \
         that can be written"
    )]
    NoPlace,
    #[error(
        "the certificate authority cannot be kept in `{}`: {reason}; set `BROWNOUT_CA_DIR` to a \
         directory that can be written", dir.display()
    )]
    Unwritable { dir: PathBuf, reason: String },
    #[error("the certificate authority's `{}` cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "others may {what} `{path}` (mode {mode:04o}), and who has the key can pass for any host; \
         if nobody did, run `chmod {right} {path}`, else `brownout ca renew`", path = path.display()
    )]
    Exposed { path: PathBuf, what: &'static str, mode: u32, right: &'static str },
    #[error(
        "the certificate authority in `{}` is broken: {reason}; `brownout ca renew` makes another, \
         which apps must be told to trust anew", path.display()
    )]
    Broken { path: PathBuf, reason: String },
    #[error(
        "the certificate authority in `{}` ended on {on}; `brownout ca renew` makes another, which \
         apps must be told to trust anew", dir.display()
    )]
    Expired { dir: PathBuf, on: String },
    #[error("`{0}` is no name for a certificate")]
    Name(String),
    #[error("a certificate cannot be made: {0}")]
    Mint(String),
}

/// What is right or wrong with a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Soundness {
    Sound,
    Expired,
    /// Signed by an authority that nobody trusts.
    Untrusted,
    /// Made for another host.
    WrongName,
}

/// The installation's certificate authority.
pub struct Authority {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
    /// When it ends.
    end: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    /// All leaves have this key.
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

/// The leaves that were used last.
#[derive(Default)]
struct Leaves {
    known: HashMap<(Soundness, String), (u64, Arc<CertifiedKey>)>,
    uses: u64,
}

impl Authority {
    /// Where the authority is when nobody says: `$BROWNOUT_CA_DIR`, else `brownout` below
    /// `$XDG_DATA_HOME`, else below `~/.local/share`.
    pub fn default_dir() -> Result<PathBuf, CaError> {
        store::default_dir(|name| std::env::var_os(name))
    }

    /// Opens the authority in a directory (the default one when None), and makes it when there is
    /// none yet.
    pub fn open(dir: Option<&Path>) -> Result<Self, CaError> {
        let dir = dir.map_or_else(Self::default_dir, |dir| Ok(dir.to_owned()))?;
        let pair = store::open(&dir)?;
        Self::of(dir, pair)
    }

    /// An authority that no file keeps, and nobody trusts.
    pub fn in_memory() -> Result<Self, CaError> {
        Self::of(PathBuf::new(), store::made(SystemTime::now())?)
    }

    /// Opens the authority only if there is one.
    pub fn find(dir: Option<&Path>) -> Result<Option<Self>, CaError> {
        let dir = dir.map_or_else(Self::default_dir, |dir| Ok(dir.to_owned()))?;
        match store::read(&dir)? {
            Some(pair) => Self::of(dir, pair).map(Some),
            None => Ok(None),
        }
    }

    /// Removes the authority from a directory; false when there was none.
    pub fn remove(dir: Option<&Path>) -> Result<bool, CaError> {
        let dir = dir.map_or_else(Self::default_dir, |dir| Ok(dir.to_owned()))?;
        store::remove(&dir)
    }

    fn of(dir: PathBuf, pair: Pair) -> Result<Self, CaError> {
        let Pair { certificate, key, end } = pair;
        if end <= SystemTime::now() {
            return Err(CaError::Expired { dir, on: date(end) });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| CaError::Broken { path: dir.clone(), reason: error.to_string() })?;
        let key = KeyPair::generate()?;
        let signing = signing_key(&key)?;
        let leaves = Mutex::default();
        Ok(Self { dir, certificate, end, issuer, key, signing, leaves })
    }

    /// The directory that it is kept in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate that apps must trust, as a file.
    pub fn certificate_path(&self) -> PathBuf {
        store::certificate_path(&self.dir)
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same in PEM.
    pub fn certificate_pem(&self) -> String {
        pem(&self.certificate)
    }

    /// The day on which it ends.
    pub fn end(&self) -> String {
        date(self.end)
    }

    /// The system's roots and this authority in PEM, for variables that replace the roots
    /// (`SSL_CERT_FILE`). Where the system has no roots it is this authority alone.
    pub fn bundle(&self) -> String {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            tracing::warn!(
                "the system has no root certificates; a program that is given this bundle can \
                 verify hosts that brownout stands in for, and no others"
            );
        }
        let others = found.certs.iter().filter(|root| **root != self.certificate);
        others.map(|root| pem(root)).chain([self.certificate_pem()]).collect()
    }

    /// A certificate for a host or an address.
    pub fn leaf(&self, name: &str) -> Result<Arc<CertifiedKey>, CaError> {
        self.flawed_leaf(name, Soundness::Sound)
    }

    /// A certificate for a host or an address, with something wrong with it.
    pub fn flawed_leaf(
        &self,
        name: &str,
        soundness: Soundness,
    ) -> Result<Arc<CertifiedKey>, CaError> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let place = (soundness, name);
        if let Some(leaf) = self.leaves.lock().get(&place) {
            return Ok(leaf);
        }
        let leaf = Arc::new(self.make(&place.1, soundness)?);
        self.leaves.lock().put(place, Arc::clone(&leaf));
        Ok(leaf)
    }

    fn make(&self, name: &str, soundness: Soundness) -> Result<CertifiedKey, CaError> {
        let bad = |_| CaError::Name(name.to_owned());
        let subject =
            match ServerName::try_from(name).map_err(|_| CaError::Name(name.to_owned()))? {
                _ if soundness == Soundness::WrongName => {
                    SanType::DnsName(WRONG_NAME.try_into().map_err(bad)?)
                }
                ServerName::IpAddress(address) => SanType::IpAddress(IpAddr::from(address)),
                _ => SanType::DnsName(name.try_into().map_err(bad)?),
            };
        let now = SystemTime::now();
        let (from, until) = match soundness {
            Soundness::Expired => (now - 31 * DAY, now - DAY),
            _ => (now - BACK, (now + AHEAD).min(self.end)),
        };
        let mut leaf = CertificateParams::default();
        leaf.not_before = moment(from);
        leaf.not_after = moment(until);
        leaf.serial_number = Some(serial()?);
        leaf.distinguished_name = common_name(match &subject {
            SanType::DnsName(name) if name.as_str().len() <= 64 => name.as_str(),
            _ => "brownout",
        });
        leaf.subject_alt_names = vec![subject];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let certificate = match soundness {
            Soundness::Untrusted => {
                let stranger = store::authority_params("an authority that nobody trusts", now);
                let stranger = Issuer::new(stranger, KeyPair::generate()?);
                leaf.signed_by(&self.key, &stranger)
            }
            _ => leaf.signed_by(&self.key, &self.issuer),
        };
        let chain = vec![certificate?.der().clone()];
        Ok(CertifiedKey::new(chain, Arc::clone(&self.signing)))
    }
}

impl Leaves {
    fn get(&mut self, place: &(Soundness, String)) -> Option<Arc<CertifiedKey>> {
        self.uses += 1;
        let (used, leaf) = self.known.get_mut(place)?;
        *used = self.uses;
        Some(Arc::clone(leaf))
    }

    fn put(&mut self, place: (Soundness, String), leaf: Arc<CertifiedKey>) {
        if self.known.len() >= KEPT {
            let oldest = self.known.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(place, (self.uses, leaf));
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn signing_key(key: &KeyPair) -> Result<Arc<dyn SigningKey>, CaError> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    aws_lc_rs::sign::any_ecdsa_type(&der).map_err(|error| CaError::Mint(error.to_string()))
}

/// By default all leaves with one key would have one serial number, which some clients refuse.
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| CaError::Mint("no random numbers".to_owned()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A time as certificates write it.
fn moment(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(time)
}

pub(super) fn date(time: SystemTime) -> String {
    moment(time).date().to_string()
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Mint(error.to_string())
    }
}

/// A certificate in PEM.
pub(super) fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 60);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = later;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    use super::*;

    fn read<T>(leaf: &CertifiedKey, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        look(&X509Certificate::from_der(&leaf.cert[0]).unwrap().1)
    }

    #[test]
    fn leaves_are_for_their_name_alone_and_no_longer_than_clients_take() {
        let authority = Authority::in_memory().unwrap();
        for name in ["api.example.com", "127.0.0.1", "::1", &format!("{}.test", "a".repeat(60))] {
            let leaf = authority.leaf(name).unwrap();
            assert!(leaf.keys_match().is_ok(), "{name}");
            read(&leaf, |leaf| {
                let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
                let shown = match &names[..] {
                    [GeneralName::DNSName(shown)] => (*shown).to_owned(),
                    [GeneralName::IPAddress(bytes)] => match bytes.len() {
                        4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).unwrap()).to_string(),
                        _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).unwrap()).to_string(),
                    },
                    other => panic!("{other:?}"),
                };
                assert_eq!(shown, name);
                let validity = leaf.validity();
                let length = validity.not_after.timestamp() - validity.not_before.timestamp();
                assert!(length <= 397 * 86_400, "{length}");
                assert!(validity.is_valid() && !leaf.is_ca());
                assert!(leaf.raw_serial()[0] < 0x80, "a positive number");
            });
        }
        for bad in ["", "*.example.com", "a b", "x/../y", "a..b"] {
            assert!(matches!(authority.leaf(bad), Err(CaError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn leaves_are_kept_and_the_one_used_longest_ago_goes() {
        let authority = Authority::in_memory().unwrap();
        let first = authority.leaf("a.test").unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf("A.Test.").unwrap()), "the same name");
        let mut serials = HashSet::new();
        for number in 0..KEPT + 20 {
            let leaf = authority.leaf(&format!("n{number}.test")).unwrap();
            assert!(serials.insert(read(&leaf, |leaf| leaf.raw_serial().to_vec())));
            authority.leaf("a.test").unwrap();
        }
        assert_eq!(authority.leaves.lock().known.len(), KEPT);
        assert!(Arc::ptr_eq(&first, &authority.leaf("a.test").unwrap()), "it was used all along");
    }

    #[test]
    fn nothing_shows_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        for text in [format!("{authority:?}"), authority.certificate_pem(), authority.bundle()] {
            assert!(!text.contains("PRIVATE") && !text.contains("KeyPair"), "{text}");
        }
        let shown = std::fs::read_to_string(authority.certificate_path()).unwrap();
        assert!(!shown.contains("PRIVATE"), "{shown}");
        assert!(authority.bundle().ends_with(&authority.certificate_pem()));
    }
}
