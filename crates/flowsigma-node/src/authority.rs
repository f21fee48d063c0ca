//! The authority that issues the certificates of one cluster.
//!
//! Owns: creating it, reading it from PEM, and issuing certificates. Must not know: where files are kept.

use crate::role::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The validity of an authority, in years.
const AUTHORITY_YEARS: i16 = 10;
/// The validity of an issued certificate, in years.
const ISSUED_YEARS: i16 = 2;

/// The error of creating or reading a certificate.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

/// An authority that issues certificates. Its own certificate is enough to verify all of them.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its private key, both in PEM. `Debug` does not show the key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, in PEM.
    pub certificate: String,
    /// The private key, in PEM.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// Creates an authority with this common name, valid for ten years. The caller must store [`Authority::key`]
    /// to issue more certificates later.
    ///
    /// # Errors
    ///
    /// Returns an error if the system provides no random numbers.
    pub fn new(name: &str) -> Result<Self, AuthorityError> {
        let mut params = valid_for(CertificateParams::new(Vec::new())?, AUTHORITY_YEARS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Reads an authority from its certificate and its key, both in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error if the texts are not PEM, or are not a certificate and its key.
    pub fn read(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer, certificate: certificate.to_owned() })
    }

    /// Returns the certificate of the authority, in PEM. Others verify issued certificates with it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns the private key, in PEM. It allows anyone to issue certificates with any role.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate that is valid for two years. It is for a client, and, if the role serves, also for a
    /// server under `hosts` (names and IP addresses).
    ///
    /// # Errors
    ///
    /// Returns an error if a host is neither a name nor an IP address.
    pub fn issue(&self, role: Role, name: &str, hosts: &[String]) -> Result<Issued, AuthorityError> {
        let hosts = if role.serves() { hosts.to_vec() } else { Vec::new() };
        let mut params = valid_for(CertificateParams::new(hosts)?, ISSUED_YEARS);
        params.distinguished_name.push(DnType::OrganizationalUnitName, role.unit());
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role.serves() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

/// Sets the validity to whole years from yesterday, because the clocks of machines differ.
fn valid_for(mut params: CertificateParams, years: i16) -> CertificateParams {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let yesterday = today.yesterday().unwrap_or(today);
    let date = |year: i16| date_time_ymd(year.into(), yesterday.month() as u8, yesterday.day().min(28) as u8);
    params.not_before = date(yesterday.year());
    params.not_after = date(yesterday.year().saturating_add(years));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::subject_of;
    use x509_parser::extensions::GeneralName;

    fn der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn a_certificate_names_its_holder_and_its_role() {
        let authority = Authority::new("a cluster").unwrap();
        for role in [Role::Scheduler, Role::Executor, Role::Client, Role::Owner] {
            let issued = authority.issue(role, "alice", &["localhost".into(), "127.0.0.1".into()]).unwrap();
            let der = der(&issued.certificate);
            let subject = subject_of(&der).unwrap();
            assert_eq!((subject.name.as_str(), subject.role), ("alice", Some(role)));
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.client_auth);
            // A client's certificate is not valid for a server.
            assert_eq!(usage.server_auth, role != Role::Client);
            assert_eq!(certificate.subject_alternative_name().unwrap().is_some(), role != Role::Client);
            assert!(certificate.validity().is_valid());
            assert!(!format!("{issued:?}").contains(&issued.key));
        }
        assert_eq!(subject_of(&der(authority.certificate())).unwrap().role, None);
        assert_eq!(subject_of(b"no certificate"), None);
    }

    #[test]
    fn an_address_is_an_address_in_the_certificate() {
        let hosts = ["a.example", "10.0.0.7", "fd00::7"].map(str::to_owned);
        let issued = Authority::new("a cluster").unwrap().issue(Role::Executor, "a", &hosts).unwrap();
        let der = der(&issued.certificate);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        let fd00_7 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let expected = [
            GeneralName::DNSName("a.example"),
            GeneralName::IPAddress(&[10, 0, 0, 7]),
            GeneralName::IPAddress(&fd00_7),
        ];
        assert_eq!(names[..], expected);
    }

    #[test]
    fn an_authority_that_is_read_back_issues_for_the_same_cluster() {
        let first = Authority::new("a cluster").unwrap();
        let again = Authority::read(first.certificate(), &first.key()).unwrap();
        let issued = again.issue(Role::Client, "bob", &[]).unwrap();
        let (issued, ca) = (der(&issued.certificate), der(first.certificate()));
        let (_, issued) = x509_parser::parse_x509_certificate(&issued).unwrap();
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        assert_eq!(issued.issuer(), ca.subject());
        let by_id = |der: &[u8]| subject_of(der).map(|subject| subject.name);
        assert_eq!(by_id(b""), None);
    }
}
