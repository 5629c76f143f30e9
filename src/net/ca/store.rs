//! The authority's files. The key file holds the key and its certificate, so that one link makes
//! both appear at once; the certificate alone is a copy to hand out.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{BACK, CaError, DAY, common_name, mint, moment, pem, serial};

const KEY: &str = "ca-key.pem";
const CERTIFICATE: &str = "ca.pem";
/// How long an authority lasts: a little less than ten years.
const LASTS: Duration = Duration::from_secs(86_400 * 3_600);
/// A common name has 64 characters at most.
const LONGEST_HOST: usize = 36;

/// An authority as it stands in its files.
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) end: SystemTime,
}

pub(super) fn certificate_path(dir: &Path) -> PathBuf {
    dir.join(CERTIFICATE)
}

pub(super) fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, CaError> {
    let path = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(own) = path("BROWNOUT_CA_DIR") {
        return Ok(own);
    }
    let data = path("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || path("HOME").map(|home| home.join(".local/share"));
    Ok(data.or_else(home).ok_or(CaError::NoPlace)?.join("brownout"))
}

/// The authority in a directory; made when there is none. Several processes that make one at the
/// same time end with the same.
pub(super) fn open(dir: &Path) -> Result<Pair, CaError> {
    if let Some(pair) = read(dir)? {
        return Ok(pair);
    }
    make(dir)?;
    read(dir)?.ok_or_else(|| CaError::Unwritable {
        dir: dir.to_owned(),
        reason: "what was written is not there".to_owned(),
    })
}

/// The authority in a directory, if there is one.
pub(super) fn read(dir: &Path) -> Result<Option<Pair>, CaError> {
    let path = dir.join(KEY);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CaError::Unreadable { path, reason: error.to_string() }),
    };
    refuse_exposed(dir, &path)?;
    let broken = |reason: String| CaError::Broken { path: path.clone(), reason };
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| broken("the file holds no private key".to_owned()))?;
    let key = KeyPair::try_from(&key).map_err(|error| broken(error.to_string()))?;
    // A pair that somebody else made has its certificate in the other file alone.
    let copy = certificate_path(dir);
    let certificate = match CertificateDer::from_pem_slice(&text) {
        Ok(certificate) => certificate,
        Err(_) => CertificateDer::from_pem_file(&copy)
            .map_err(|error| broken(format!("no certificate in `{}`: {error}", copy.display())))?,
    };
    let end = check(&certificate, &key).map_err(broken)?;
    let public = pem(&certificate);
    let same = fs::read_to_string(&copy).is_ok_and(|text| {
        CertificateDer::from_pem_slice(text.as_bytes()).is_ok_and(|copy| copy == certificate)
    });
    if !same {
        // Not being able to is no reason to fail: the key file is what counts.
        if let Err(error) = replace(dir, CERTIFICATE, public.as_bytes(), 0o644) {
            tracing::warn!(path = %copy.display(), %error, "the CA's certificate cannot be written");
        }
    }
    Ok(Some(Pair { certificate, key, end }))
}

/// Whether they belong together and may sign; gives back when that ends.
fn check(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<SystemTime, String> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    if read.public_key().subject_public_key.data != key.public_key_raw() {
        return Err("the key does not fit the certificate".to_owned());
    }
    if !read.is_ca() {
        return Err("its certificate may not sign others (it is no CA)".to_owned());
    }
    let end = u64::try_from(read.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
}

pub(super) fn remove(dir: &Path) -> Result<bool, CaError> {
    let gone = |name: &str| match fs::remove_file(dir.join(name)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CaError::Unwritable { dir: dir.to_owned(), reason: error.to_string() }),
    };
    let key = gone(KEY)?;
    Ok(gone(CERTIFICATE)? || key)
}

/// Makes a pair.
pub(super) fn made(now: SystemTime) -> Result<Pair, CaError> {
    let key = KeyPair::generate().map_err(mint)?;
    let mut params = authority_params(&name(now), now);
    params.serial_number = Some(serial()?);
    let certificate = params.self_signed(&key).map_err(mint)?.der().clone();
    Ok(Pair { certificate, key, end: now + LASTS - DAY })
}

/// Makes a pair and puts it in its place, unless another process was faster.
fn make(dir: &Path) -> Result<(), CaError> {
    let Pair { certificate, key, .. } = made(SystemTime::now())?;
    let both = format!("{}{}", key.serialize_pem(), pem(&certificate));
    let written = create_dir(dir).and_then(|()| appear(dir, KEY, both.as_bytes()));
    written.map_err(|error| CaError::Unwritable { dir: dir.to_owned(), reason: error.to_string() })
}

/// An authority's certificate before it is signed.
pub(super) fn authority_params(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.not_before = moment(now - BACK);
    params.not_after = moment(now + LASTS - DAY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(now: SystemTime) -> String {
    let host: String = host()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-._".contains(*letter))
        .take(LONGEST_HOST)
        .collect();
    format!(
        "brownout CA of {} ({})",
        if host.is_empty() { "this host" } else { &host },
        super::date(now)
    )
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes a file with this content appear at once, for its owner alone; one that is there already
/// stays.
fn appear(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let (draft, target) = (draft(dir, name, content, 0o600)?, dir.join(name));
    let linked = match fs::hard_link(&draft, &target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems know no links.
        Err(_) if !target.exists() => fs::rename(&draft, &target),
        done => done,
    };
    let _ = fs::remove_file(&draft);
    linked
}

/// Puts a file in the place of another at once.
fn replace(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft(dir, name, content, mode)?;
    fs::rename(&draft, dir.join(name)).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// A file that is whole, under a name that nobody looks for.
fn draft(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".{name}.{}.{count}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = match options.open(&path) {
        // Of a process that died and whose number came round again.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            options.open(&path)?
        }
        opened => opened?,
    };
    file.write_all(content)?;
    file.sync_all()?;
    Ok(path)
}

#[cfg(unix)]
fn refuse_exposed(dir: &Path, key: &Path) -> Result<(), CaError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| {
        fs::metadata(path).map(|about| about.permissions().mode() & 0o7777).map_err(|error| {
            CaError::Unreadable { path: path.to_owned(), reason: error.to_string() }
        })
    };
    let exposed = |path: &Path, what, mode, right| {
        Err(CaError::Exposed { path: path.to_owned(), what, mode, right })
    };
    match (mode(key)?, mode(dir)?) {
        (of_key, _) if of_key & 0o077 != 0 => exposed(key, "read", of_key, "600"),
        // In a sticky directory (`/tmp`) others cannot replace the key.
        (_, of_dir) if of_dir & 0o1002 == 0o002 => exposed(dir, "write to", of_dir, "700"),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &Path) -> Result<(), CaError> {
    Ok(())
}
