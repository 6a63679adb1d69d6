//! The tokens that a coordinator gave out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::private_file::{self, PrivateFileError};
use super::{Authority, Fingerprint, JoinToken, ParseTokenError, TokenId, TokenSecret, Utc};

/// A token that is to be typed into a few hosts need not outlive the day.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Holds the token for hosts on the coordinator's machine, in the coordinator's directory.
pub const LOCAL_TOKEN_FILE: &str = "local.token";

/// Nobody looks after more; each takes some 300 bytes in the file.
const MAX_TOKENS: usize = 1000;

/// In characters.
const MAX_NOTE_LENGTH: usize = 200;

/// Expired and revoked tokens stay listed for a week, so that whoever still uses one learns what became of it.
const KEPT_AFTER_END: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The coordinator's list of join tokens, kept in a file.
///
/// The daemon of the coordinator is the only one to write the file. It holds no secret, only keyed hashes of them, but
/// is for its owner alone all the same.
#[derive(Debug)]
pub struct TokenBook {
    path: PathBuf,
    authority: Fingerprint,
    authority_expires: SystemTime,
    tokens: Vec<Entry>,
}

/// What a listing says about one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// Its name.
    pub id: TokenId,
    /// What it was made for, in its maker's words.
    pub note: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// Whether it is good.
    pub state: TokenState,
    /// How many times a host was let in with it.
    pub uses: u64,
}

/// Whether a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// Hosts are let in.
    Valid,
    /// Its time is over.
    Expired,
    /// The user took it back.
    Revoked,
}

/// Why a host is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// The coordinator never made such a token, or has forgotten it.
    #[error(
        "the coordinator does not know this join token: it ended long ago or belongs to an earlier start; \
         `rallyd token create` on the coordinator makes another"
    )]
    Unknown,
    /// The token's secret is another one.
    #[error("the secret of this join token is wrong: copy the token again from the coordinator")]
    WrongSecret,
    /// The token's time is over.
    #[error("this join token expired at {}: `rallyd token create` on the coordinator makes another", Utc(*since))]
    Expired {
        /// When it expired.
        since: SystemTime,
    },
    /// The user took the token back.
    #[error("this join token was revoked: `rallyd token create` on the coordinator makes another")]
    Revoked,
}

/// The tokens could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenBookError {
    /// Their file cannot be read or written, or is not private.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Their file is damaged.
    #[error(
        "{} is damaged: delete it, and every token becomes invalid; hosts that have joined are not affected",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There are too many tokens.
    #[error("there are {MAX_TOKENS} valid tokens, which is the most: revoke those that are not needed")]
    Full,
    /// The note is too long.
    #[error("the note has {length} characters, and {MAX_NOTE_LENGTH} are allowed")]
    NoteTooLong {
        /// Its length in characters.
        length: usize,
    },
    /// There is no token with this id.
    #[error("there is no token {id}; `rallyd token list` shows those there are")]
    NoSuchToken {
        /// The id.
        id: TokenId,
    },
}

/// The token for hosts on the coordinator's machine could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalTokenError {
    /// Its file cannot be read, or is not private.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Its file holds something else.
    #[error("{} is damaged: restart the coordinator, which writes it anew", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseTokenError,
    },
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    /// Whose tokens these are; those of another authority are void.
    authority: Fingerprint,
    tokens: Vec<Entry>,
}

/// One token; times are in seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: TokenId,
    note: String,
    /// HMAC-SHA256 of the secret, keyed with the authority's fingerprint, in base64.
    secret_hash: String,
    created: u64,
    expires: u64,
    revoked: Option<u64>,
    uses: u64,
    /// Whether this is the token in [`LOCAL_TOKEN_FILE`].
    local: bool,
}

impl TokenBook {
    /// Reads the tokens that `authority`'s coordinator gave out; there are none if there is no file at `path`.
    ///
    /// # Errors
    ///
    /// Others can read the file, or it is damaged.
    pub fn open(path: impl Into<PathBuf>, authority: &Authority) -> Result<Self, TokenBookError> {
        let path = path.into();
        let mut tokens = Vec::new();
        if let Some(text) = private_file::read(&path)? {
            let file: TokenFile =
                serde_json::from_str(&text).map_err(|source| TokenBookError::Corrupt { path: path.clone(), source })?;
            if file.authority == authority.fingerprint() {
                tokens = file.tokens;
            } else {
                info!(path = %path.display(), "forgot the join tokens of another authority");
            }
        }
        Ok(Self { path, authority: authority.fingerprint(), authority_expires: authority.expires_at(), tokens })
    }

    /// Makes a token that any number of hosts can join with until `lifetime` is over, or the authority if that is
    /// earlier. `note` says what it is for.
    ///
    /// # Errors
    ///
    /// There are too many tokens, the note is too long, or the file cannot be written; then there is no new token.
    pub fn create(&mut self, lifetime: Duration, note: &str, now: SystemTime) -> Result<JoinToken, TokenBookError> {
        let length = note.chars().count();
        if length > MAX_NOTE_LENGTH {
            return Err(TokenBookError::NoteTooLong { length });
        }
        let mut tokens = self.remembered(now);
        let token = self.add(&mut tokens, lifetime, note, false, now)?;
        self.replace(tokens)?;
        Ok(token)
    }

    /// Makes the token for hosts on this machine that run as the same user, and writes it to [`LOCAL_TOKEN_FILE`] in
    /// `directory`, where [`find_local_token`] finds it. It is valid as long as the authority; the one of the
    /// coordinator's last start ends.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or others may write to the directory.
    pub fn local_token(&mut self, directory: &Path, now: SystemTime) -> Result<JoinToken, TokenBookError> {
        private_file::create_directory(directory)?;
        let mut tokens = self.remembered(now);
        tokens.retain(|entry| !entry.local);
        let token = self.add(&mut tokens, Duration::MAX, "hosts on this machine", true, now)?;
        self.replace(tokens)?;
        private_file::write(&directory.join(LOCAL_TOKEN_FILE), &format!("{token}\n"))?;
        Ok(token)
    }

    /// Every token that is valid, or ended within the last week; the oldest first.
    pub fn list(&self, now: SystemTime) -> Vec<TokenSummary> {
        let summary = |entry: Entry| TokenSummary {
            state: entry.state(now),
            id: entry.id,
            created: from_seconds(entry.created),
            expires: from_seconds(entry.expires),
            uses: entry.uses,
            note: entry.note,
        };
        self.remembered(now).into_iter().map(summary).collect()
    }

    /// Ends a token before its time. Hosts that joined with it stay; a token that has ended already stays as it is.
    ///
    /// # Errors
    ///
    /// There is no such token, or the file cannot be written; then the token stays valid.
    pub fn revoke(&mut self, id: TokenId, now: SystemTime) -> Result<(), TokenBookError> {
        let mut tokens = self.remembered(now);
        let entry = tokens.iter_mut().find(|entry| entry.id == id).ok_or(TokenBookError::NoSuchToken { id })?;
        if entry.state(now) == TokenState::Valid {
            entry.revoked = Some(seconds(now));
            self.replace(tokens)?;
        }
        Ok(())
    }

    /// Decides whether a host that shows this secret may join, and counts it if so.
    ///
    /// # Errors
    ///
    /// The reason to tell the host. What became of a token is told only to those who know its secret.
    pub fn check(&mut self, id: TokenId, secret: &TokenSecret, now: SystemTime) -> Result<(), TokenRefusal> {
        let key = self.hash_key();
        let entry = self.tokens.iter_mut().find(|entry| entry.id == id).ok_or(TokenRefusal::Unknown)?;
        let hash = STANDARD_NO_PAD.decode(&entry.secret_hash).map_err(|_| TokenRefusal::WrongSecret)?;
        // Takes the same time wherever the first difference is.
        hmac::verify(&key, &secret.0, &hash).map_err(|_| TokenRefusal::WrongSecret)?;
        match entry.state(now) {
            TokenState::Valid => {}
            TokenState::Expired => return Err(TokenRefusal::Expired { since: from_seconds(entry.expires) }),
            TokenState::Revoked => return Err(TokenRefusal::Revoked),
        }
        entry.uses = entry.uses.saturating_add(1);
        // A count that is lost is no reason to turn a host away.
        if let Err(error) = self.save(&self.tokens) {
            warn!(%id, error = &error as &dyn std::error::Error, "failed to note the use of a join token");
        }
        Ok(())
    }

    /// A copy of the tokens without those that ended more than [`KEPT_AFTER_END`] ago.
    fn remembered(&self, now: SystemTime) -> Vec<Entry> {
        let now = seconds(now);
        let kept = |entry: &&Entry| now < entry.ended_or_ends().saturating_add(KEPT_AFTER_END.as_secs());
        self.tokens.iter().filter(kept).cloned().collect()
    }

    fn add(
        &self,
        tokens: &mut Vec<Entry>,
        lifetime: Duration,
        note: &str,
        local: bool,
        now: SystemTime,
    ) -> Result<JoinToken, TokenBookError> {
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|entry| entry.state(now) == TokenState::Valid);
        }
        if tokens.len() >= MAX_TOKENS {
            return Err(TokenBookError::Full);
        }
        let mut id = TokenId(rand::random());
        while tokens.iter().any(|entry| entry.id == id) {
            id = TokenId(rand::random());
        }
        let secret = TokenSecret(rand::random());
        let expires = now.checked_add(lifetime).map_or(self.authority_expires, |end| end.min(self.authority_expires));
        let expires = seconds(expires);
        tokens.push(Entry {
            id,
            note: note.to_owned(),
            secret_hash: STANDARD_NO_PAD.encode(hmac::sign(&self.hash_key(), &secret.0)),
            created: seconds(now),
            expires,
            revoked: None,
            uses: 0,
            local,
        });
        Ok(JoinToken { fingerprint: self.authority, id, secret, expires: from_seconds(expires) })
    }

    fn hash_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.authority.as_bytes())
    }

    /// Writes the tokens, then takes them over: what could not be written is not promised.
    fn replace(&mut self, tokens: Vec<Entry>) -> Result<(), PrivateFileError> {
        self.save(&tokens)?;
        self.tokens = tokens;
        Ok(())
    }

    fn save(&self, tokens: &[Entry]) -> Result<(), PrivateFileError> {
        let file = TokenFile { authority: self.authority, tokens: tokens.to_vec() };
        let text = serde_json::to_string_pretty(&file).expect("texts and numbers have a JSON form");
        private_file::write(&self.path, &text)
    }
}

/// Reads the token that a coordinator of the same user left in `directory`, `None` if there is none.
///
/// The coordinator writes another one at every start, so look again at each attempt to join.
///
/// # Errors
///
/// Others can read the file, or it is damaged.
pub fn find_local_token(directory: &Path) -> Result<Option<JoinToken>, LocalTokenError> {
    let path = directory.join(LOCAL_TOKEN_FILE);
    match private_file::read(&path)? {
        Some(text) => text.parse().map(Some).map_err(|source| LocalTokenError::Corrupt { path, source }),
        None => Ok(None),
    }
}

impl Entry {
    fn state(&self, now: SystemTime) -> TokenState {
        if self.revoked.is_some() {
            TokenState::Revoked
        } else if self.expires <= seconds(now) {
            TokenState::Expired
        } else {
            TokenState::Valid
        }
    }

    fn ended_or_ends(&self) -> u64 {
        self.revoked.unwrap_or(self.expires)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("note", &self.note).finish_non_exhaustive()
    }
}

/// A time as the file has it; times before 1970 count as 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The reverse of [`seconds`]; a time beyond the system's range, which only a changed file can hold, counts as 1970.
fn from_seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    struct Fixture {
        directory: TempDir,
        authority: Authority,
        now: SystemTime,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let authority = Authority::open_or_create(directory.path(), now).unwrap();
            Self { directory, authority, now }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("tokens.json")
        }

        fn book(&self) -> TokenBook {
            TokenBook::open(self.path(), &self.authority).unwrap()
        }
    }

    #[test]
    fn a_token_is_good_until_it_ends_also_after_a_restart() {
        let fixture = Fixture::new();
        let now = fixture.now;
        let mut book = fixture.book();
        let token = book.create(HOUR, "rack 3", now).unwrap();
        assert_eq!(token.fingerprint, fixture.authority.fingerprint());
        assert_eq!(token.expires, now + HOUR);
        assert_eq!(book.check(token.id, &token.secret, now), Ok(()));

        let mut book = fixture.book();
        assert_eq!(book.check(token.id, &token.secret, now + HOUR - Duration::from_secs(1)), Ok(()));
        let over = Err(TokenRefusal::Expired { since: now + HOUR });
        assert_eq!(book.check(token.id, &token.secret, now + HOUR), over);

        let listed = fixture.book().list(now + HOUR);
        let expected = TokenSummary {
            id: token.id,
            note: "rack 3".to_owned(),
            created: now,
            expires: now + HOUR,
            state: TokenState::Expired,
            uses: 2,
        };
        assert_eq!(listed, [expected]);
    }

    #[test]
    fn refusals_tell_the_state_of_a_token_only_to_those_who_know_the_secret() {
        let fixture = Fixture::new();
        let now = fixture.now;
        let mut book = fixture.book();
        let revoked = book.create(HOUR, "", now).unwrap();
        let valid = book.create(HOUR, "", now).unwrap();
        book.revoke(revoked.id, now).unwrap();
        let unknown = TokenId(!revoked.id.0 & !valid.id.0 | 1);
        let table = [
            (valid.id, &valid.secret, Ok(())),
            (valid.id, &revoked.secret, Err(TokenRefusal::WrongSecret)),
            (revoked.id, &revoked.secret, Err(TokenRefusal::Revoked)),
            (revoked.id, &valid.secret, Err(TokenRefusal::WrongSecret)),
            (unknown, &valid.secret, Err(TokenRefusal::Unknown)),
        ];
        for (id, secret, expected) in table {
            assert_eq!(book.check(id, secret, now), expected);
            assert_eq!(fixture.book().check(id, secret, now), expected, "after a restart");
        }
    }

    #[test]
    fn revoking_changes_only_tokens_that_are_valid() {
        let fixture = Fixture::new();
        let now = fixture.now;
        let mut book = fixture.book();
        let token = book.create(HOUR, "", now).unwrap();
        book.revoke(token.id, now + HOUR).unwrap();
        assert_eq!(book.list(now + HOUR)[0].state, TokenState::Expired);
        let unknown = TokenId(!token.id.0);
        let error = book.revoke(unknown, now).unwrap_err();
        assert!(matches!(error, TokenBookError::NoSuchToken { id } if id == unknown), "{error}");
    }

    #[test]
    fn ended_tokens_are_forgotten_after_a_week() {
        let fixture = Fixture::new();
        let now = fixture.now;
        let mut book = fixture.book();
        let expiring = book.create(HOUR, "", now).unwrap();
        let revoked = book.create(HOUR * 1_000, "", now).unwrap();
        book.revoke(revoked.id, now).unwrap();
        let states = |now| book.list(now).into_iter().map(|token| (token.id, token.state)).collect::<Vec<_>>();
        let end = now + KEPT_AFTER_END;
        let both = [(expiring.id, TokenState::Expired), (revoked.id, TokenState::Revoked)];
        assert_eq!(states(end - Duration::from_secs(1)), both);
        assert_eq!(states(end), both[..1]);
        assert_eq!(states(end + HOUR), []);
    }

    #[test]
    fn there_is_room_for_new_tokens_as_long_as_the_valid_ones_are_few() {
        let fixture = Fixture::new();
        let now = fixture.now;
        let mut book = fixture.book();
        // Through the inner function, since a thousand writes to disk would take seconds.
        let mut tokens = Vec::new();
        for _ in 0..MAX_TOKENS {
            book.add(&mut tokens, HOUR, "", false, now).unwrap();
        }
        book.replace(tokens).unwrap();
        assert!(matches!(book.create(HOUR, "", now), Err(TokenBookError::Full)));
        assert_eq!(fixture.book().list(now).len(), MAX_TOKENS);
        book.revoke(book.tokens[0].id, now).unwrap();
        book.create(HOUR, "", now).unwrap();
        book.create(HOUR, "", now + HOUR).unwrap();
        assert_eq!(book.list(now + HOUR).len(), 1);
    }

    #[test]
    fn tokens_end_with_the_authority_and_their_notes_are_short() {
        let fixture = Fixture::new();
        let mut book = fixture.book();
        let token = book.create(Duration::MAX, &"ü".repeat(MAX_NOTE_LENGTH), fixture.now).unwrap();
        assert_eq!(token.expires, fixture.authority.expires_at());
        let error = book.create(HOUR, &"x".repeat(MAX_NOTE_LENGTH + 1), fixture.now).unwrap_err();
        assert!(matches!(error, TokenBookError::NoteTooLong { length } if length == MAX_NOTE_LENGTH + 1));
    }

    #[test]
    fn the_file_is_private_and_holds_no_secret() {
        let fixture = Fixture::new();
        let mut book = fixture.book();
        let token = book.create(HOUR, "", fixture.now).unwrap();
        assert_eq!(fs::metadata(fixture.path()).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(fixture.path()).unwrap();
        assert!(text.contains(&token.id.to_string()), "{text}");
        assert!(!text.contains(&STANDARD_NO_PAD.encode(token.secret.0)), "{text}");
        assert!(!format!("{book:?}").contains(&book.tokens[0].secret_hash));

        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = TokenBook::open(fixture.path(), &fixture.authority).unwrap_err();
        assert!(matches!(error, TokenBookError::File(PrivateFileError::Exposed { .. })), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_with_the_remedy() {
        let fixture = Fixture::new();
        fixture.book().create(HOUR, "", fixture.now).unwrap();
        let whole = fs::read_to_string(fixture.path()).unwrap();
        for text in [&whole[..whole.len() / 2], "", "[]", &whole.replace("\"uses\"", "\"usage\"")] {
            fs::write(fixture.path(), text).unwrap();
            let error = TokenBook::open(fixture.path(), &fixture.authority).unwrap_err();
            assert!(matches!(error, TokenBookError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("tokens.json is damaged: delete it"), "{error}");
        }
    }

    #[test]
    fn a_token_that_could_not_be_written_does_not_exist() {
        let fixture = Fixture::new();
        let mut book = fixture.book();
        let token = book.create(HOUR, "", fixture.now).unwrap();
        // Root writes wherever it likes, so a directory in the way it is.
        fs::remove_file(fixture.path()).unwrap();
        fs::create_dir(fixture.path()).unwrap();
        assert!(matches!(book.create(HOUR, "", fixture.now), Err(TokenBookError::File(_))));
        assert!(matches!(book.revoke(token.id, fixture.now), Err(TokenBookError::File(_))));
        let listed = book.list(fixture.now);
        assert_eq!(listed.iter().map(|token| token.state).collect::<Vec<_>>(), [TokenState::Valid]);
        assert_eq!(book.check(token.id, &token.secret, fixture.now), Ok(()), "an uncounted use is still allowed");
    }

    #[test]
    fn tokens_of_another_authority_are_void() {
        let fixture = Fixture::new();
        let token = fixture.book().create(HOUR, "", fixture.now).unwrap();
        let other = Fixture::new();
        let mut book = TokenBook::open(fixture.path(), &other.authority).unwrap();
        assert_eq!(book.list(fixture.now), []);
        assert_eq!(book.check(token.id, &token.secret, fixture.now), Err(TokenRefusal::Unknown));
    }

    #[test]
    fn the_local_token_is_found_and_changes_at_each_start() {
        let fixture = Fixture::new();
        let directory = fixture.directory.path().join("local");
        assert!(find_local_token(&directory).unwrap().is_none());
        let mut book = fixture.book();
        let first = book.local_token(&directory, fixture.now).unwrap();
        assert_eq!(fs::metadata(directory.join(LOCAL_TOKEN_FILE)).unwrap().mode() & 0o777, 0o600);
        let found = find_local_token(&directory).unwrap().unwrap();
        assert_eq!(found.to_string(), first.to_string());
        assert_eq!(found.expires, fixture.authority.expires_at());

        let mut book = fixture.book();
        let second = book.local_token(&directory, fixture.now).unwrap();
        assert_eq!(book.check(first.id, &first.secret, fixture.now), Err(TokenRefusal::Unknown));
        assert_eq!(book.check(second.id, &second.secret, fixture.now), Ok(()));
        assert_eq!(book.list(fixture.now).len(), 1);

        fs::write(directory.join(LOCAL_TOKEN_FILE), &second.to_string()[..40]).unwrap();
        let error = find_local_token(&directory).unwrap_err();
        assert!(matches!(error, LocalTokenError::Corrupt { .. }), "{error}");
    }
}
