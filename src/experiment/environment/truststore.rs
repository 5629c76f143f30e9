//! A PKCS#12 file with certificates that a Java program trusts: no key, so no password, no MAC and
//! no encryption (Java reads that since 8u301). It is only ever written.

use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
/// Without it Java takes a certificate for part of a chain, and trusts nothing.
const TRUSTED: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANY_USE: &[u64] = &[2, 5, 29, 37, 0];

/// The file's bytes.
pub(super) fn pkcs12<C: AsRef<[u8]>>(certificates: &[C]) -> Vec<u8> {
    let bags = yasna::construct_der(|writer| {
        writer.write_sequence_of(|writer| {
            for (index, certificate) in certificates.iter().enumerate() {
                bag(writer.next(), &format!("root-{index}"), certificate.as_ref());
            }
        });
    });
    let contents = yasna::construct_der(|writer| {
        writer.write_sequence_of(|writer| data(writer.next(), &bags));
    });
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &contents);
        });
    })
}

fn data(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(DATA));
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
    });
}

fn bag(writer: DERWriter<'_>, name: &str, certificate: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(CERTIFICATE_BAG));
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_oid(&oid(X509));
                writer.next().write_tagged(Tag::context(0), |w| w.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            attribute(writer.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(name));
            attribute(writer.next(), TRUSTED, |writer| writer.write_oid(&oid(ANY_USE)));
        });
    });
}

fn attribute(writer: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(name));
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}

fn oid(numbers: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_in_it_as_it_is() {
        let certificates = [vec![0x30; 300], vec![0x31; 10]];
        let file = pkcs12(&certificates);
        let (version, rest) = yasna::parse_der(&file, |reader| {
            reader.read_sequence(|reader| {
                let version = reader.next().read_u8()?;
                let rest = reader.next().read_der()?;
                Ok((version, rest))
            })
        })
        .unwrap();
        assert_eq!(version, 3);
        for certificate in &certificates {
            let found = memchr::memmem::find(&rest, certificate);
            assert!(found.is_some());
        }
    }
}
