//! Verification of certificates: webpki's, with refusals that users understand.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme};

use super::{COORDINATOR_SERVER_NAME, CertificateProblem};
use crate::Fingerprint;

/// Accepts the hosts of one cluster as clients, and clients without a certificate.
#[derive(Debug)]
pub(super) struct ClusterClientVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
}

impl ClusterClientVerifier {
    pub(super) fn new(authority: &CertificateDer<'_>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let webpki = WebPkiClientVerifier::builder_with_provider(roots(authority)?, Arc::clone(provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { webpki })
    }

    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateProblem> {
        let verified = self.webpki.verify_client_cert(leaf, intermediates, now);
        verified.map(drop).map_err(|error| CertificateProblem::new(error, leaf))
    }
}

impl ClientCertVerifier for ClusterClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Accepts the hosts of one cluster as servers, each under its own name.
#[derive(Debug)]
pub(super) struct ClusterServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
}

impl ClusterServerVerifier {
    pub(super) fn new(authority: &CertificateDer<'_>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let webpki = WebPkiServerVerifier::builder_with_provider(roots(authority)?, Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { webpki })
    }
}

impl ServerCertVerifier for ClusterServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| CertificateProblem::new(error, end_entity).into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Accepts the coordinator of the cluster whose authority has a given fingerprint.
///
/// The authority's certificate itself comes with the handshake; a good fingerprint makes it trusted.
#[derive(Debug)]
pub(super) struct JoinServerVerifier {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl JoinServerVerifier {
    pub(super) fn new(authority: Fingerprint, provider: &Arc<CryptoProvider>) -> Self {
        Self { authority, provider: Arc::clone(provider) }
    }
}

impl ServerCertVerifier for JoinServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.authority)
        else {
            let presented = intermediates.last().map(Fingerprint::of);
            return Err(CertificateProblem::WrongFingerprint { expected: self.authority, presented }.into());
        };
        // The token is for the coordinator alone, so the name is not up to the caller.
        let coordinator = ServerName::try_from(COORDINATOR_SERVER_NAME)
            .map_err(|_| Error::General("the coordinator's server name is not valid".to_owned()))?;
        ClusterServerVerifier::new(authority, &self.provider)?.verify_server_cert(
            end_entity,
            &[],
            &coordinator,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn roots(authority: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(Arc::new(roots))
}
