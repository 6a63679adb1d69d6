//! TLS towards clusters under test.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::{ClientOptions, InvalidClientOptions};

/// Makes what all connections to one cluster share.
pub(super) fn connector(options: &ClientOptions) -> Result<TlsConnector, InvalidClientOptions> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("use_ssl", error))?;
    let builder = if options.verify_certs {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(options)?), provider)
            .build()
            .map_err(|error| wrong("ca_certs", error))?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(VerifyChain { inner, names: options.verify_hostname }))
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(VerifyNothing { provider }))
    };
    let config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client_cert", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("client_key", key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong("client_cert", error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(options: &ClientOptions) -> Result<RootCertStore, InvalidClientOptions> {
    let mut roots = RootCertStore::empty();
    match &options.ca_certs {
        Some(file) => {
            for certificate in certificates("ca_certs", file)? {
                roots.add(certificate).map_err(|error| unreadable("ca_certs", file, error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(wrong("ca_certs", "there is no authority to trust; name a PEM file with one"));
    }
    Ok(roots)
}

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidClientOptions> {
    let reader = File::open(file).map_err(|error| unreadable(option, file, error))?;
    CertificateDer::pem_reader_iter(reader).collect::<Result<_, _>>().map_err(|error| unreadable(option, file, error))
}

fn unreadable(option: &str, file: &Path, error: impl Display) -> InvalidClientOptions {
    wrong(option, format!("cannot use {}: {error}", file.display()))
}

fn wrong(option: &str, problem: impl Display) -> InvalidClientOptions {
    InvalidClientOptions { option: option.to_owned(), problem: problem.to_string() }
}

/// What is said of a failure of TLS, with what would help.
pub(super) fn explain(error: &Error) -> String {
    let remedy = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "name a PEM file with the authority that signed its certificate in the client option `ca_certs`"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "address it by a name that stands in its certificate, or set the client option `ssl_assert_hostname:false`"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it needs a new certificate"
        }
        Error::InvalidCertificate(CertificateError::Other(_)) => {
            "it needs a certificate of its own, signed by an authority that stands in the client option `ca_certs`"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of ours: give the client options `client_cert` and `client_key`"
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError,
        ) => "it does not accept the certificate in the client option `client_cert`",
        Error::InvalidMessage(_) => "it may speak no TLS: leave out `use_ssl` and `https://` then",
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

/// Checks the chain of certificates, and the name only of hosts that are addressed by name, as Rally does it.
#[derive(Debug)]
struct VerifyChain {
    inner: Arc<WebPkiServerVerifier>,
    /// Whether names are checked at all.
    names: bool,
}

impl ServerCertVerifier for VerifyChain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names || matches!(server_name, ServerName::IpAddress(_)) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any certificate, for `verify_certs:false`. The handshake itself is still checked.
#[derive(Debug)]
struct VerifyNothing {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for VerifyNothing {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

    use super::*;
    use crate::testing::Authority;

    fn verifier(authority: &Authority, names: bool) -> VerifyChain {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        VerifyChain { inner, names }
    }

    #[test]
    fn names_are_all_that_is_ever_passed_over() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let good = ours.sign(&["es.example.org", "10.0.0.1"], |_| ());
        let expired = ours.sign(&["other.example.org"], |params| params.not_after = date_time_ymd(2001, 1, 1));
        let early = ours.sign(&["other.example.org"], |params| params.not_before = date_time_ymd(2999, 1, 1));
        let strange = theirs.sign(&["other.example.org"], |_| ());
        let for_clients = ours.sign(&["other.example.org"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let [good, expired, early, strange, for_clients] =
            [good, expired, early, strange, for_clients].map(|signed| signed.cert.der().clone());
        let mut forged = good.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = CertificateDer::from(forged);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        for (certificate, name, with_names, without_names) in [
            (&good, "es.example.org", None, None),
            (&good, "10.0.0.1", None, None),
            // Addresses are not checked, as in the original.
            (&good, "10.0.0.2", None, None),
            (&good, "::1", None, None),
            (&good, "es.example.com", Some("not valid for name"), None),
            // Whatever else is wrong counts, whether names do or not.
            (&expired, "es.example.org", Some("expired"), Some("expired")),
            (&expired, "10.0.0.1", Some("expired"), Some("expired")),
            (&early, "es.example.org", Some("not valid yet"), Some("not valid yet")),
            (&strange, "es.example.org", Some("UnknownIssuer"), Some("UnknownIssuer")),
            (&strange, "10.0.0.1", Some("UnknownIssuer"), Some("UnknownIssuer")),
            (&for_clients, "10.0.0.1", Some("key usage"), Some("key usage")),
            (&forged, "10.0.0.1", Some("BadSignature"), Some("BadSignature")),
            (ours.certificate.der(), "10.0.0.1", Some("CaUsedAsEndEntity"), Some("CaUsedAsEndEntity")),
            (&CertificateDer::from(vec![0x30, 0x00]), "10.0.0.1", Some("BadEncoding"), Some("BadEncoding")),
        ] {
            for (names, expected) in [(true, with_names), (false, without_names)] {
                let server = ServerName::try_from(name).unwrap();
                let result = verifier(&ours, names).verify_server_cert(certificate, &[], &server, &[], now);
                let problem = result.err().map(|error| error.to_string());
                match (&problem, expected) {
                    (None, None) => {}
                    (Some(problem), Some(expected)) if problem.contains(expected) => {}
                    _ => panic!("{name}, names: {names}: {problem:?}, not {expected:?}"),
                }
            }
        }
    }
}
