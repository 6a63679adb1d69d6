//! A host's own certificate and key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rally_core::HostId;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::authority::{BACKDATED, is_self_signed, validity};
use super::key_file::{KeyFile, ReadKeyFileError};
use super::private_file::{self, PrivateFileError};
use super::{Fingerprint, PeerIdentity, peer_identity};
use crate::HostRole;
use crate::tls;

/// In the directory that [`Credentials::store`] and [`Credentials::load`] are given.
const FILE: &str = "identity.pem";

/// What a host proves with that it belongs to its cluster, and as whom.
#[derive(Clone)]
pub struct Credentials {
    identity: PeerIdentity,
    /// The host's certificate, then the authority's.
    chain: [CertificateDer<'static>; 2],
    key: HostKey,
    issued_at: SystemTime,
    expires_at: SystemTime,
}

/// A host's private key, from [`Credentials::request`] until the certificate for it arrives.
pub struct HostKey(PrivatePkcs8KeyDer<'static>);

/// A host's credentials could not be made, stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Their file cannot be read or written, or is not private.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Their file does not hold a host's credentials.
    #[error(
        "{} does not hold this host's identity ({problem}): delete it, then start the host with a join token",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificates that the coordinator sent are not good for this host.
    #[error("the coordinator issued a certificate that is of no use: {0}")]
    Issued(String),
    /// The certificates that the coordinator sent are another cluster's.
    #[error("the coordinator issued a certificate of another authority: {presented} instead of {expected}")]
    ForeignAuthority {
        /// The authority that the host was to get a certificate from.
        expected: Fingerprint,
        /// The authority that it got one from.
        presented: Fingerprint,
    },
    /// The cryptographic library failed.
    #[error("failed to make a key for this host")]
    Generate(#[from] rcgen::Error),
}

impl Credentials {
    /// Makes a new key, and the certificate request in DER for [`Authority::issue`], with which a host joins or renews
    /// its certificate.
    ///
    /// # Errors
    ///
    /// The operating system has no randomness to offer.
    ///
    /// [`Authority::issue`]: super::Authority::issue
    pub fn request() -> Result<(HostKey, Vec<u8>), CredentialsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?;
        Ok((HostKey(key.serialize_der().into()), request.der().to_vec()))
    }

    /// Puts together a key and the chain that `authority` issued for it.
    ///
    /// # Errors
    ///
    /// The chain is not a host's certificate for this key followed by the certificate of that authority, which signed
    /// it. Whether it is valid at this time is left to the handshake.
    pub fn from_issued(
        key: HostKey,
        chain: Vec<CertificateDer<'static>>,
        authority: Fingerprint,
    ) -> Result<Self, CredentialsError> {
        let credentials = Self::new(key, chain).map_err(CredentialsError::Issued)?;
        let presented = credentials.authority();
        if presented != authority {
            return Err(CredentialsError::ForeignAuthority { expected: authority, presented });
        }
        Ok(credentials)
    }

    fn new(HostKey(key): HostKey, chain: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let file = KeyFile { key, chain };
        file.check_key(&tls::provider()).map_err(|error| error.to_string())?;
        let chain = <[_; 2]>::try_from(file.chain).map_err(|_| "the host's and the authority's certificate are due")?;
        let [leaf, authority] = &chain;
        if !is_self_signed(authority) {
            return Err("the authority's certificate is damaged".to_owned());
        }
        let (not_before, expires_at) = validity(leaf).ok_or("the host's certificate is damaged")?;
        tls::verify_host(leaf, authority, expires_at).map_err(|error| error.to_string())?;
        let identity = peer_identity(&chain).map_err(|error| error.to_string())?;
        let issued_at = not_before + BACKDATED;
        Ok(Self { identity, chain, key: HostKey(file.key), issued_at, expires_at })
    }

    /// Reads what [`store`](Self::store) wrote, `None` if there is nothing. Expired credentials are read like others.
    ///
    /// # Errors
    ///
    /// The file is damaged, or others can read it.
    pub fn load(directory: &Path) -> Result<Option<Self>, CredentialsError> {
        let path = directory.join(FILE);
        let file = match KeyFile::read(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(ReadKeyFileError::File(error)) => return Err(error.into()),
            Err(ReadKeyFileError::Contents(problem)) => return Err(CredentialsError::Corrupt { path, problem }),
        };
        match Self::new(HostKey(file.key), file.chain) {
            Ok(credentials) => Ok(Some(credentials)),
            Err(problem) => Err(CredentialsError::Corrupt { path, problem }),
        }
    }

    /// Replaces the file in `directory` that [`load`](Self::load) reads, for its owner alone. The directory is made if
    /// it is missing.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or others may write to the directory.
    pub fn store(&self, directory: &Path) -> Result<(), CredentialsError> {
        private_file::create_directory(directory)?;
        let file = KeyFile { key: self.key.0.clone_key(), chain: self.chain.to_vec() };
        Ok(file.write(&directory.join(FILE))?)
    }

    /// This host.
    pub fn host(&self) -> HostId {
        self.identity.host
    }

    /// Its place in the cluster.
    pub fn role(&self) -> HostRole {
        self.identity.role
    }

    /// The authority of the cluster that the host belongs to.
    pub fn authority(&self) -> Fingerprint {
        Fingerprint::of(self.authority_certificate())
    }

    /// When the certificate ends.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// When to ask for the next certificate: after two thirds of this one's lifetime.
    pub fn renew_at(&self) -> SystemTime {
        let lifetime = self.expires_at.duration_since(self.issued_at).unwrap_or_default();
        self.issued_at + lifetime * 2 / 3
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn authority_certificate(&self) -> &CertificateDer<'static> {
        let [_, authority] = &self.chain;
        authority
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        self.key.0.clone_key().into()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("host", &self.identity.host)
            .field("role", &self.identity.role)
            .field("authority", &self.authority())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Clone for HostKey {
    fn clone(&self) -> Self {
        Self(self.0.clone_key())
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::{Authority, DEFAULT_CERTIFICATE_LIFETIME};
    use super::*;

    const HOST: HostId = HostId::from_random(0xfeed);

    fn authority() -> (TempDir, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path(), SystemTime::now()).unwrap();
        (directory, authority)
    }

    fn issue(authority: &Authority, now: SystemTime) -> Credentials {
        let (key, request) = Credentials::request().unwrap();
        let chain = authority.issue(&request, HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, now).unwrap();
        Credentials::from_issued(key, chain, authority.fingerprint()).unwrap()
    }

    #[test]
    fn credentials_survive_a_restart_even_when_they_have_expired() {
        let (_directory, authority) = authority();
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("identity");
        assert!(Credentials::load(&directory).unwrap().is_none());
        for now in [SystemTime::now(), SystemTime::now() - 2 * DEFAULT_CERTIFICATE_LIFETIME] {
            let credentials = issue(&authority, now);
            credentials.store(&directory).unwrap();
            let loaded = Credentials::load(&directory).unwrap().unwrap();
            assert_eq!((loaded.host(), loaded.role()), (HOST, HostRole::Member));
            assert_eq!(loaded.authority(), authority.fingerprint());
            assert_eq!(loaded.chain(), credentials.chain());
            assert_eq!(loaded.private_key(), credentials.private_key());
        }
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(directory.join(FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_lifetime() {
        let (_directory, authority) = authority();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let credentials = issue(&authority, now);
        assert_eq!(credentials.expires_at(), now + DEFAULT_CERTIFICATE_LIFETIME);
        assert_eq!(credentials.renew_at(), now + DEFAULT_CERTIFICATE_LIFETIME * 2 / 3);
    }

    #[test]
    fn what_was_issued_must_fit_the_key_and_the_authority() {
        let (_directory, authority) = authority();
        let (_other_directory, other) = self::authority();
        let (key, request) = Credentials::request().unwrap();
        let (other_key, _) = Credentials::request().unwrap();
        let now = SystemTime::now();
        let issue = |authority: &Authority| {
            authority.issue(&request, HOST, HostRole::Member, DEFAULT_CERTIFICATE_LIFETIME, now).unwrap()
        };
        let good = issue(&authority);
        let foreign = issue(&other);
        let expected = authority.fingerprint();
        assert!(Credentials::from_issued(key.clone(), good.clone(), expected).is_ok());

        let error = Credentials::from_issued(key.clone(), foreign.clone(), expected).unwrap_err();
        assert!(matches!(error, CredentialsError::ForeignAuthority { .. }), "{error}");
        let mixed = vec![foreign[0].clone(), good[1].clone()];
        let swapped = vec![good[1].clone(), good[0].clone()];
        let garbage = vec![good[0].clone(), CertificateDer::from(vec![1, 2, 3])];
        let table = [
            (other_key, good.clone()),
            (key.clone(), mixed),
            (key.clone(), swapped),
            (key.clone(), garbage),
            (key.clone(), good[..1].to_vec()),
            (key.clone(), vec![good[0].clone(), good[1].clone(), good[1].clone()]),
            (key, Vec::new()),
        ];
        for (key, chain) in table {
            let error = Credentials::from_issued(key, chain.clone(), expected).unwrap_err();
            assert!(matches!(error, CredentialsError::Issued(_)), "{error}: {chain:?}");
        }
    }

    #[test]
    fn the_debug_form_shows_no_key() {
        let (_directory, authority) = authority();
        let credentials = issue(&authority, SystemTime::now());
        let shown = format!("{credentials:?} {:?}", credentials.key);
        assert!(shown.contains(&HOST.to_string()), "{shown}");
        assert!(!shown.contains("key:") && !shown.contains("Pkcs8"), "{shown}");
    }

    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        let (_directory, authority) = authority();
        let home = tempfile::tempdir().unwrap();
        issue(&authority, SystemTime::now()).store(home.path()).unwrap();
        let path = home.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Credentials::load(home.path()).unwrap_err();
        assert!(matches!(error, CredentialsError::File(PrivateFileError::Exposed { .. })), "{error}");
        assert!(error.to_string().contains(FILE), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_half_written_or_garbled_identity_is_named_with_the_remedy(
            cut: prop::sample::Index, position: prop::sample::Index, byte in b'A'..=b'Z',
        ) {
            let (_directory, authority) = authority();
            let home = tempfile::tempdir().unwrap();
            let credentials = issue(&authority, SystemTime::now());
            credentials.store(home.path()).unwrap();
            let path = home.path().join(FILE);
            let whole = fs::read_to_string(&path).unwrap();
            // Whatever is missing at the end is more than the last line's newline.
            let cut = &whole[..cut.index(whole.len() - 2)];
            let mut garbled = whole.clone().into_bytes();
            garbled[position.index(whole.len())] = byte;
            for bytes in [cut.as_bytes(), &garbled] {
                fs::write(&path, bytes).unwrap();
                match Credentials::load(home.path()) {
                    Err(error) => {
                        prop_assert!(matches!(error, CredentialsError::Corrupt { .. }), "{}", error);
                        let sentence = error.to_string();
                        prop_assert!(sentence.contains(FILE) && sentence.contains("join token"), "{}", sentence);
                    }
                    // A letter may replace itself, or bits of the last letter of a block that mean nothing.
                    Ok(loaded) => {
                        let loaded = loaded.unwrap();
                        prop_assert_eq!(loaded.chain(), credentials.chain());
                        prop_assert_eq!(loaded.private_key(), credentials.private_key());
                    }
                }
            }
        }
    }
}
