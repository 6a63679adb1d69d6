//! The certificate authority of a cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rally_core::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use super::key_file::{KeyFile, ReadKeyFileError};
use super::private_file::{self, PrivateFileError};
use super::{Fingerprint, PeerIdentity, Utc};
use crate::HostRole;
use crate::tls;

/// Hosts get certificates for 30 days and renew them after 20, so a host may be switched off for ten days at least.
pub const DEFAULT_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Ten years: longer than anybody keeps a benchmark cluster.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Every certificate is valid from a day before it was made, so that modest clock differences do not matter.
pub(super) const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// In the directory that [`Authority::open_or_create`] is given.
const FILE: &str = "authority.pem";

/// In bytes; a request with a key as we make them has about 300.
const MAX_REQUEST_LENGTH: usize = 4096;

/// In bytes: an uncompressed point on the curve P-256.
const PUBLIC_KEY_LENGTH: usize = 65;

/// The certificate authority of one cluster, kept by its coordinator.
///
/// Its key never leaves the directory; the certificate is no secret.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    expires_at: SystemTime,
}

/// The authority could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Its file cannot be read or written, or is not private.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Its file does not hold an authority.
    #[error(
        "{} does not hold the cluster's authority ({problem}): restore it from a backup, or delete it to begin a new \
         cluster, which every host has to join anew",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The authority is past its end.
    #[error(
        "the cluster's authority in {} expired at {}: delete the file to begin a new cluster, which every host has to \
         join anew",
        path.display(), Utc(*since)
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        since: SystemTime,
    },
    /// The cryptographic library failed.
    #[error("failed to make the cluster's authority")]
    Generate(#[from] rcgen::Error),
}

/// A host did not get a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The host's request is not one that [`Credentials::request`] makes.
    ///
    /// [`Credentials::request`]: super::Credentials::request
    #[error("the certificate request is not valid: {0}")]
    InvalidRequest(&'static str),
    /// The authority is past its end, so whatever it signs would be as well.
    #[error("the cluster's authority expired at {}", Utc(*.since))]
    AuthorityExpired {
        /// When it expired.
        since: SystemTime,
    },
    /// The cryptographic library failed.
    #[error("failed to sign the certificate")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// Reads the authority that `directory` holds, or makes one that is valid for ten years.
    ///
    /// The directory is made if it is missing. Key and certificate are in one file, `authority.pem`, for its owner
    /// alone.
    ///
    /// # Errors
    ///
    /// Others can get at the files, the file is damaged, or the authority has expired.
    pub fn open_or_create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        private_file::create_directory(directory)?;
        let path = directory.join(FILE);
        let corrupt = |problem: String| AuthorityError::Corrupt { path: path.clone(), problem };
        let file = match KeyFile::read(&path) {
            Ok(Some(file)) => file,
            Ok(None) => {
                let file = generate(now)?;
                file.write(&path)?;
                file
            }
            Err(ReadKeyFileError::File(error)) => return Err(error.into()),
            Err(ReadKeyFileError::Contents(problem)) => return Err(corrupt(problem)),
        };
        let authority = Self::from_file(file).map_err(corrupt)?;
        if authority.expires_at <= now {
            return Err(AuthorityError::Expired { path, since: authority.expires_at });
        }
        Ok(authority)
    }

    fn from_file(file: KeyFile) -> Result<Self, String> {
        file.check_key(&tls::provider()).map_err(|error| error.to_string())?;
        let [certificate] = <[_; 1]>::try_from(file.chain).map_err(|_| "it has more than one certificate")?;
        if !is_self_signed(&certificate) {
            return Err("its certificate is damaged".to_owned());
        }
        let (_, expires_at) = validity(&certificate).ok_or("its certificate is damaged")?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&file.key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| error.to_string())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { certificate, issuer, expires_at })
    }

    /// What a join token carries, so that a host that joins can tell this authority from any other.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The end of the authority, and of every certificate that it signs.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Signs a certificate for the key in a host's request and returns the chain: the host's certificate, then the
    /// authority's.
    ///
    /// Only the key is taken from the request, which may come from anybody: names, extensions and validity are set here.
    /// The certificate ends after `lifetime`, or with the authority if that is earlier.
    ///
    /// # Errors
    ///
    /// The request is malformed, or was not signed with the key that it asks for; the authority has expired.
    pub fn issue(
        &self,
        request: &[u8],
        host: HostId,
        role: HostRole,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        if self.expires_at <= now {
            return Err(IssueError::AuthorityExpired { since: self.expires_at });
        }
        if request.len() > MAX_REQUEST_LENGTH {
            return Err(IssueError::InvalidRequest("it is too long"));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|_| IssueError::InvalidRequest("it cannot be read, or its signature is wrong"))?;
        let key = request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != PUBLIC_KEY_LENGTH {
            return Err(IssueError::InvalidRequest("its key is not an ECDSA key on the curve P-256"));
        }

        let names = PeerIdentity { host, role }.dns_names();
        let mut params = CertificateParams::new(names)?;
        let end = now.checked_add(lifetime).map_or(self.expires_at, |end| end.min(self.expires_at));
        params.not_before = (now - BACKDATED).into();
        params.not_after = end.into();
        params.serial_number = Some(random_serial());
        params.distinguished_name = common_name(&format!("Rally host {host}"));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Members accept connections too: other members fetch files from them.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(vec![leaf.into(), self.certificate.clone()])
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

fn generate(now: SystemTime) -> Result<KeyFile, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    params.serial_number = Some(random_serial());
    // A name of its own for every cluster, so that a certificate of another cluster is not taken for a forged one.
    params.distinguished_name = common_name(&format!("Rally cluster {:08x}", rand::random::<u32>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key)?;
    Ok(KeyFile { key: PrivatePkcs8KeyDer::from(key.serialize_der()), chain: vec![certificate.into()] })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// A random positive number of 127 bits.
fn random_serial() -> SerialNumber {
    SerialNumber::from((rand::random::<u128>() >> 1).to_be_bytes().to_vec())
}

/// Whether an authority's certificate is intact, which handshakes do not look at: they trust it as it is.
pub(super) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(rest, certificate)| rest.is_empty() && certificate.verify_signature(None).is_ok())
}

/// From when until when a certificate is valid; `None` if it cannot be read.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |seconds: i64| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    };
    let validity = certificate.validity();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::{Credentials, peer_identity};
    use super::*;

    const HOST: HostId = HostId::from_random(7);

    fn authority() -> (TempDir, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
        (directory, authority)
    }

    #[test]
    fn the_authority_of_the_first_start_is_found_at_the_next() {
        let (directory, authority) = authority();
        let again = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        assert_eq!(again.expires_at(), authority.expires_at());
        let (_other_directory, other) = self::authority();
        assert_ne!(other.fingerprint(), authority.fingerprint());
    }

    #[test]
    fn the_debug_form_shows_no_key() {
        let (directory, authority) = authority();
        let text = fs::read_to_string(directory.path().join(FILE)).unwrap();
        let shown = format!("{authority:?}");
        assert!(shown.contains("fingerprint"), "{shown}");
        // The last line of a block may be short enough to occur by chance.
        for line in text.lines().filter(|line| line.len() == 64 && !line.starts_with('-')) {
            assert!(!shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn a_damaged_authority_is_named_with_the_remedy() {
        let (directory, _) = authority();
        let path = directory.path().join(FILE);
        let whole = fs::read_to_string(&path).unwrap();
        let (other_directory, _) = authority();
        let other = fs::read_to_string(other_directory.path().join(FILE)).unwrap();
        let certificate_of_other = &other[other.find("-----BEGIN CERTIFICATE").unwrap()..];
        let key = &whole[..whole.find("-----BEGIN CERTIFICATE").unwrap()];
        let certificate = &whole[key.len()..];
        let damaged = [
            String::new(),
            key.to_owned(),
            certificate.to_owned(),
            whole[..whole.len() / 2].to_owned(),
            format!("{key}{certificate_of_other}"),
            format!("{whole}{certificate}"),
            format!("{key}{key}"),
            whole.replace("MI", "QQ"),
        ];
        for text in damaged {
            fs::write(&path, &text).unwrap();
            let error = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap_err();
            assert!(matches!(error, AuthorityError::Corrupt { .. }), "{error}: {text}");
            let sentence = error.to_string();
            assert!(sentence.contains(FILE) && sentence.contains("restore it from a backup"), "{sentence}");
        }
        fs::write(&path, whole).unwrap();
        Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
    }

    #[test]
    fn an_expired_authority_is_refused() {
        let (directory, authority) = authority();
        let error = Authority::open_or_create(directory.path(), authority.expires_at()).unwrap_err();
        assert!(matches!(error, AuthorityError::Expired { .. }), "{error}");
        let (_, request) = Credentials::request().unwrap();
        let issued =
            authority.issue(&request, HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, authority.expires_at());
        assert!(matches!(issued, Err(IssueError::AuthorityExpired { .. })));
    }

    #[test]
    fn only_the_key_of_a_request_counts() {
        let (_directory, authority) = authority();
        let key = KeyPair::generate().unwrap();
        let mut wishes = CertificateParams::new(vec!["coordinator.rally".to_owned()]).unwrap();
        wishes.distinguished_name = common_name("the coordinator");
        wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let request = wishes.serialize_request(&key).unwrap();
        let now = SystemTime::now();
        let chain = authority.issue(request.der(), HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, now).unwrap();

        assert_eq!(peer_identity(&chain), Ok(PeerIdentity { host: HOST, role: HostRole::Member }));
        let leaf = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
        assert_eq!(leaf.valid_dns_names().collect::<Vec<_>>(), [format!("{HOST}.member.rally")]);
        let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject().to_string(), format!("CN=Rally host {HOST}"));
        assert_eq!(public_key(&chain[0]), key.der_bytes());
    }

    #[test]
    fn certificates_begin_a_day_early_and_end_with_the_authority_at_the_latest() {
        let (_directory, authority) = authority();
        let (_, request) = Credentials::request().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let issue = |lifetime| {
            let chain = authority.issue(&request, HOST, HostRole::Coordinator, lifetime, now).unwrap();
            validity(&chain[0]).unwrap()
        };
        let hour = Duration::from_secs(3_600);
        assert_eq!(issue(hour), (now - BACKDATED, now + hour));
        assert_eq!(issue(AUTHORITY_LIFETIME * 2), (now - BACKDATED, authority.expires_at()));
        assert_eq!(issue(Duration::MAX), (now - BACKDATED, authority.expires_at()));
    }

    #[test]
    fn a_request_for_somebody_else_s_key_or_another_kind_of_key_is_refused() {
        let (_directory, authority) = authority();
        let issue = |request: &[u8]| {
            authority.issue(request, HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, SystemTime::now())
        };
        let (_, good) = Credentials::request().unwrap();
        assert!(issue(&good).is_ok());

        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other_keys =
            [ed25519, p384].map(|key| CertificateParams::default().serialize_request(&key).unwrap().der().to_vec());
        let [ed25519, p384] = other_keys;
        for bad in [forged, ed25519, p384, good[..good.len() / 2].to_vec(), Vec::new(), vec![0; 5_000]] {
            assert!(matches!(issue(&bad), Err(IssueError::InvalidRequest(_))), "{bad:?}");
        }
    }

    /// The public key of a certificate.
    fn public_key(certificate: &CertificateDer<'_>) -> Vec<u8> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        parsed.public_key().subject_public_key.data.to_vec()
    }

    proptest! {
        #[test]
        fn a_garbled_request_certifies_no_other_key(
            position: prop::sample::Index, flip in 1u8.., cut: prop::sample::Index, noise: Vec<u8>,
        ) {
            let (_directory, authority) = authority();
            let key = KeyPair::generate().unwrap();
            let good = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
            let mut flipped = good.clone();
            flipped[position.index(good.len())] ^= flip;
            let mut cut = good[..cut.index(good.len())].to_vec();
            cut.extend(&noise);
            for bad in [flipped, cut, noise] {
                let issued =
                    authority.issue(&bad, HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, SystemTime::now());
                // Around the part that is signed, the parser lets some oddities pass.
                if let Ok(chain) = issued {
                    prop_assert_eq!(public_key(&chain[0]), key.der_bytes());
                }
            }
        }
    }
}
