//! A private key and the certificates that go with it, together in one PEM file.
//!
//! One file is replaced in one step, so key and certificate always belong together.

use std::path::Path;

use pem::Pem;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::private_file::{self, PrivateFileError};

const KEY_TAG: &str = "PRIVATE KEY";
const CERTIFICATE_TAG: &str = "CERTIFICATE";

/// What such a file holds.
pub(super) struct KeyFile {
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// What is wrong with the contents of a key file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadKeyFileError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Not one key followed by certificates.
    #[error("{0}")]
    Contents(String),
}

impl KeyFile {
    /// Reads the file at `path`, `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ReadKeyFileError> {
        private_file::read(path)?.map(|text| Self::parse(&text)).transpose()
    }

    fn parse(text: &str) -> Result<Self, ReadKeyFileError> {
        let contents = |problem: &str| ReadKeyFileError::Contents(problem.to_owned());
        let sections = pem::parse_many(text).map_err(|error| ReadKeyFileError::Contents(error.to_string()))?;
        let mut sections = sections.into_iter();
        let key = match sections.next() {
            Some(section) if section.tag() == KEY_TAG => PrivatePkcs8KeyDer::from(section.into_contents()),
            _ => return Err(contents("it does not begin with a private key")),
        };
        let chain = sections
            .map(|section| (section.tag() == CERTIFICATE_TAG).then(|| CertificateDer::from(section.into_contents())))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| contents("something else than certificates follows the private key"))?;
        Ok(Self { key, chain })
    }

    /// Replaces the file at `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), PrivateFileError> {
        let key = Pem::new(KEY_TAG, self.key.secret_pkcs8_der());
        let chain = self.chain.iter().map(|certificate| Pem::new(CERTIFICATE_TAG, certificate.as_ref()));
        let sections: Vec<Pem> = std::iter::once(key).chain(chain).collect();
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        private_file::write(path, &pem::encode_many_config(&sections, config))
    }

    /// Checks that the first certificate is about this key.
    pub(super) fn check_key(&self, provider: &CryptoProvider) -> Result<(), rustls::Error> {
        let key = PrivateKeyDer::from(self.key.clone_key());
        CertifiedKey::from_der(self.chain.clone(), key, provider).map(drop)
    }
}
