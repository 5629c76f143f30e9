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

use super::{BACK, CaError, DAY, common_name, moment, pem, serial};

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
    let key = KeyPair::generate()?;
    let mut params = authority_params(&name(now), now);
    params.serial_number = Some(serial()?);
    let certificate = params.self_signed(&key)?.der().clone();
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_directory_is_where_the_variables_say() {
        let of = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            default_dir(|name| variables.get(name).map(Into::into)).ok()
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(of(&[("HOME", "/h")]), path("/h/.local/share/brownout"));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]), path("/d/brownout"));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_DATA_HOME", "d")]), path("/h/.local/share/brownout"));
        assert_eq!(of(&[("BROWNOUT_CA_DIR", "/c"), ("HOME", "/h")]), path("/c"));
        assert_eq!(
            of(&[("BROWNOUT_CA_DIR", ""), ("HOME", "/h")]),
            path("/h/.local/share/brownout")
        );
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn all_who_make_one_at_the_same_time_end_with_the_same() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("deep/down");
            let barrier = Barrier::new(8);
            let made: Vec<_> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            open(&dir).unwrap().certificate
                        })
                    })
                    .collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            assert!(made.iter().all(|one| *one == made[0]));
            let mut left: Vec<_> = fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            assert_eq!(left, [KEY, CERTIFICATE], "no draft stays");
        }
    }

    #[test]
    fn an_authority_lasts_and_is_named_after_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(first.certificate, again.certificate);
        let (_, read) = X509Certificate::from_der(&first.certificate).unwrap();
        assert!(read.subject().to_string().starts_with("CN=brownout CA of "), "{}", read.subject());
        let years = (read.validity().not_after.timestamp() - read.validity().not_before.timestamp())
            as f64
            / (365.25 * 86_400.0);
        assert!(years > 5.0 && years <= 10.0, "{years}");
        fs::remove_file(certificate_path(dir.path())).unwrap();
        open(dir.path()).unwrap();
        let copy = CertificateDer::from_pem_file(certificate_path(dir.path())).unwrap();
        assert_eq!(copy, first.certificate, "the copy comes back");
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("brownout");
        open(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let key = dir.join(KEY);
        assert_eq!((mode(&dir), mode(&key)), (0o700, 0o600));
        assert_eq!(mode(&certificate_path(&dir)) & 0o444, 0o444, "the certificate is no secret");
        for exposed in [0o640, 0o604, 0o660] {
            set(&key, exposed);
            let error = open(&dir).err().unwrap().to_string();
            assert!(error.contains("chmod 600") && error.contains("ca renew"), "{error}");
        }
        set(&key, 0o400);
        open(&dir).unwrap();
        set(&dir, 0o777);
        let error = open(&dir).err().unwrap().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        set(&dir, 0o1777);
        open(&dir).unwrap();
    }

    #[test]
    fn a_broken_authority_is_refused_and_one_of_two_files_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = [0, 1].map(|_| made(SystemTime::now()).unwrap());
        let key = |pair: &Pair| pair.key.serialize_pem();
        let refused = |content: String, part: &str| {
            let _ = fs::remove_file(dir.path().join(KEY));
            appear(dir.path(), KEY, content.as_bytes()).unwrap();
            let error = open(dir.path()).err().unwrap().to_string();
            assert!(error.contains(part) && error.contains("ca renew"), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        };
        refused(String::new(), "no private key");
        refused(pem(&one.certificate), "no private key");
        refused(key(&one), "no certificate in");
        refused(key(&one) + &pem(&other.certificate), "does not fit");
        let leaf = CertificateParams::new(["x.test".to_owned()]).unwrap().self_signed(&one.key);
        refused(key(&one) + &pem(leaf.unwrap().der()), "no CA");
        // A pair in two files, as other tools write them.
        fs::remove_file(dir.path().join(KEY)).unwrap();
        appear(dir.path(), KEY, key(&one).as_bytes()).unwrap();
        fs::write(certificate_path(dir.path()), pem(&one.certificate)).unwrap();
        assert_eq!(open(dir.path()).unwrap().certificate, one.certificate);
        assert!(remove(dir.path()).unwrap() && !remove(dir.path()).unwrap());
        assert!(read(dir.path()).unwrap().is_none());
    }

    #[test]
    fn one_that_has_ended_says_when() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + 10_000 * DAY;
        let mut params = authority_params("old", long_ago);
        params.not_after = moment(long_ago + DAY);
        let key = KeyPair::generate().unwrap();
        let old = params.self_signed(&key).unwrap();
        let content = key.serialize_pem() + &pem(old.der());
        appear(dir.path(), KEY, content.as_bytes()).unwrap();
        let error = super::super::Authority::open(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("ended on 1997-05-20") && error.contains("ca renew"), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = open(&file.join("below")).err().unwrap().to_string();
        assert!(error.contains("BROWNOUT_CA_DIR") || error.contains("cannot be read"), "{error}");
    }
}
