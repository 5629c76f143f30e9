//! `ca`: shows the installation's certificate authority and how programs come to trust it.

use std::path::Path;

use super::args::{CaAction, CaArgs, CaPrint};
use super::{Failed, exit, terminal};
use crate::net::ca::{Authority, CaError};

pub(crate) fn run(args: &CaArgs) -> Result<u8, Failed> {
    let failed = |error: CaError| Failed::run(error.to_string());
    let dir = args
        .dir
        .as_deref()
        .map(std::path::absolute)
        .transpose()
        .map_err(|error| Failed::usage(format!("--dir: {error}")))?;
    let dir = dir.as_deref();
    match args.action {
        Some(CaAction::Remove) => {
            let was = Authority::remove(dir).map_err(failed)?;
            let text =
                if was { "removed; the next use makes another\n" } else { "there was none\n" };
            terminal::out(text)?;
            return Ok(exit::PASS);
        }
        Some(CaAction::Renew) => {
            Authority::remove(dir).map_err(failed)?;
        }
        None => {}
    }
    let authority = Authority::open(dir).map_err(failed)?;
    if let Some(file) = &args.bundle {
        write_bundle(&authority, file)?;
    }
    match args.print {
        Some(CaPrint::Pem) => terminal::out(&authority.certificate_pem())?,
        Some(CaPrint::Path) => {
            terminal::out(&format!("{}\n", authority.certificate_path().display()))?;
        }
        None if args.bundle.is_some() => {}
        None => terminal::out(&told(&authority))?,
    }
    Ok(exit::PASS)
}

fn write_bundle(authority: &Authority, file: &Path) -> Result<(), Failed> {
    let bundle = authority.bundle();
    if file == Path::new("-") {
        return terminal::out(&bundle);
    }
    std::fs::write(file, &bundle)
        .map_err(|error| Failed::run(format!("`{}` cannot be written: {error}", file.display())))?;
    let count = bundle.matches("-----BEGIN CERTIFICATE-----").count();
    terminal::note(&format!("{count} certificates in {}", file.display()));
    Ok(())
}

fn told(authority: &Authority) -> String {
    let certificate = authority.certificate_path();
    let (certificate, end) = (certificate.display(), authority.end());
    format!(
        "\
This installation's certificate authority, good until {end}
  {certificate}

It signs what brownout shows to apps over TLS. Its key stays beside it, for your user alone: never
copy it. An app trusts it when it is told to; nothing on this machine needs to change:

  export NODE_EXTRA_CA_CERTS={certificate}
  brownout ca --bundle ca-bundle.pem     # the system's roots and this one, for all of these:
  export SSL_CERT_FILE=$PWD/ca-bundle.pem                      # Python, Go, Ruby, Rust, OpenSSL
  export REQUESTS_CA_BUNDLE=$PWD/ca-bundle.pem                 # Python requests
  export CURL_CA_BUNDLE=$PWD/ca-bundle.pem                     # curl
  export AWS_CA_BUNDLE=$PWD/ca-bundle.pem                      # boto3, AWS CLI
  export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=$PWD/ca-bundle.pem   # gRPC
  export GIT_SSL_CAINFO=$PWD/ca-bundle.pem PIP_CERT=$PWD/ca-bundle.pem

Java: keytool -importcert -noprompt -alias brownout -file {certificate} \\
        -keystore trust.p12 -storepass changeit
      java -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit …
"
    )
}
