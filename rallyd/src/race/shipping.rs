//! Corpora that are shipped: which hosts of a race have them, and from which of those the others fetch them.
//!
//! The coordinator asks every driver which files it has. Each offers those on its shelf, by their hash, until the race ends;
//! the plan of the race then says who has what, and drivers fetch from each other. The coordinator itself gets only what
//! nobody has.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use rally_core::race::RaceTiming;
use rally_core::{ContentHash, HostId, RaceId, RacePlan, ShippedFile, ShippedPart, ShippingHost};
use rally_driver::{DocumentsHere, LocalLoadDriver, Means};
use rally_net::{Access, Host, Request, Services, Shelf};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::cluster::{ClusterContent, Ending, LateHost};
use crate::causes::causes;

/// How long a host may take to say that it will look, and to look for parts.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a host may take to say that it offers nothing any more. The next race waits for that, so it is short; what is not
/// withdrawn now is with the lease of the driver.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(1);

/// How long a host that looks for corpora may say nothing: enough to read a terabyte from a disk. One that hangs must not hold
/// the race for ever.
const SILENCE: Duration = Duration::from_secs(2 * 60 * 60);

/// What a host has found and not yet told.
const UNTOLD: usize = 64;

/// Takes sentences for the user, each with the host that it is about.
pub(super) type HostNotice = Arc<dyn Fn(String, String) + Send + Sync>;

/// Files by the names of the corpus and of the unpacked file.
type FileNames = Vec<(String, String)>;

/// Asks a host which of these files it has, and to offer them until it is asked to withdraw them, or about another race, or
/// its lease for this one ends. It comes from the coordinator, and is answered by what the host has found; when that ends, it has looked everywhere.
#[derive(Debug, Serialize, Deserialize)]
struct OfferCorpora {
    race: RaceId,
    plan: ContentHash,
    files: FileNames,
    means: Means,
}

impl Request for OfferCorpora {
    const NAME: &'static str = "corpora/offer";
    type Answer = CorpusNews;
}

/// What a host says that looks for corpora.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum CorpusNews {
    /// A sentence for the user.
    Noticed(String),
    /// It offers this file. Whoever hears it knows which host that is.
    Offered(ShippedFile),
}

/// Asks a host which parts of these files it has from earlier races, and to offer them as with [`OfferCorpora`]. It comes from the
/// coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OfferParts {
    pub(super) race: RaceId,
    pub(super) plan: ContentHash,
    /// Files by their names and contents.
    pub(super) files: Vec<((String, String), ContentHash)>,
}

impl Request for OfferParts {
    const NAME: &'static str = "corpora/offer-parts";
    /// What it offers, by the position of the file; or why it cannot look.
    type Answer = Result<Vec<(u32, Range<u64>)>, String>;
}

/// Asks a host to offer the corpora of a race no longer. It comes from the coordinator.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WithdrawCorpora {
    pub(super) race: RaceId,
}

impl Request for WithdrawCorpora {
    const NAME: &'static str = "corpora/withdraw";
    type Answer = ();
}

/// What this host offers of the corpora of one race.
pub(super) struct CorpusOffers {
    driver: Arc<LocalLoadDriver>,
    content: Arc<ClusterContent>,
    host: LateHost,
    offered: Mutex<Option<(RaceId, Vec<ContentHash>)>>,
}

impl fmt::Debug for CorpusOffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorpusOffers").field("offered", &self.lock()).finish_non_exhaustive()
    }
}

impl CorpusOffers {
    pub(super) fn new(driver: Arc<LocalLoadDriver>, content: Arc<ClusterContent>, host: LateHost) -> Self {
        Self { driver, content, host, offered: Mutex::default() }
    }

    /// Answers the coordinator.
    pub(super) fn serve(self: &Arc<Self>, services: &mut Services) {
        let offers = Arc::clone(self);
        services.stream(Access::CoordinatorOnly, move |_, request: OfferCorpora| {
            let news = Arc::clone(&offers).look(request);
            async move { Ok(news) }
        });
        let offers = Arc::clone(self);
        services.answer(Access::CoordinatorOnly, move |_, request: OfferParts| {
            let offers = Arc::clone(&offers);
            async move {
                let plan = offers.content.look_at_plan(request.plan).await?;
                offers.offer_parts(&request, &plan).await
            }
        });
        let offers = Arc::clone(self);
        services.answer(Access::CoordinatorOnly, move |_, WithdrawCorpora { race }| {
            offers.withdraw(&race);
            std::future::ready(())
        });
    }

    /// Looks for files, and tells of each as soon as it is offered. When it is dropped, it looks no further.
    fn look(self: Arc<Self>, request: OfferCorpora) -> impl Stream<Item = CorpusNews> + Send + use<> {
        let (sender, mut news) = mpsc::channel(UNTOLD);
        let work = async move {
            let OfferCorpora { race, plan, files, means } = request;
            let told = sender.clone();
            // What comes too fast is of no use to anybody.
            let notice = Arc::new(move |message| drop(told.try_send(CorpusNews::Noticed(message))));
            let offered = match self.content.look_at_plan(plan).await {
                Ok(plan) => self.offer(&race, &plan, &files, means, notice).await,
                Err(error) => Err(error),
            };
            let news = match offered {
                Ok(offered) => offered.into_iter().map(CorpusNews::Offered).collect(),
                Err(error) => vec![CorpusNews::Noticed(error)],
            };
            for news in news {
                // The receiver is gone only with this future.
                let _ = sender.send(news).await;
            }
        };
        let work = stream::once(work).filter_map(async |()| None);
        stream::select(stream::poll_fn(move |context| news.poll_recv(context)), work.boxed())
    }

    /// Gets files ready by these means and offers them to the hosts of the race.
    ///
    /// # Errors
    ///
    /// A sentence that names what cannot be had.
    async fn offer(
        &self,
        race: &RaceId,
        plan: &RacePlan,
        files: &[(String, String)],
        means: Means,
        notice: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Vec<ShippedFile>, String> {
        let shelf = self.shelf().ok_or_else(|| Ending.to_string())?;
        self.turn_to(race, &shelf);
        let documents = self.driver.documents(plan, files, means, Arc::clone(&notice)).await;
        let mut offered = Vec::new();
        for DocumentsHere { corpus, document_file, path, length, offsets } in
            documents.map_err(|error| causes(&error).join(": "))?
        {
            match shelf.add(path).await {
                Ok(content) => {
                    self.remember(race, content, &shelf);
                    offered.push(ShippedFile {
                        corpus,
                        document_file,
                        content,
                        length,
                        offsets,
                        hosts: Vec::new(),
                        parts: Vec::new(),
                    });
                }
                Err(error) => {
                    let error = causes(&error).join(": ");
                    if means == Means::Download {
                        return Err(error);
                    }
                    notice(format!("{document_file} is not offered to other hosts: {error}"));
                }
            }
        }
        Ok(offered)
    }

    /// Offers the parts of files that are here from earlier races, and says which.
    async fn offer_parts(&self, request: &OfferParts, plan: &RacePlan) -> Result<Vec<(u32, Range<u64>)>, String> {
        let shelf = self.shelf().ok_or_else(|| Ending.to_string())?;
        self.turn_to(&request.race, &shelf);
        let mut offered = Vec::new();
        for (number, (names, content)) in (0..).zip(&request.files) {
            let parts = self.driver.document_parts(plan, names, *content);
            for (bytes, path) in parts.map_err(|error| causes(&error).join(": "))? {
                match shelf.add_part(path, *content, bytes.start).await {
                    Ok(()) => offered.push((number, bytes)),
                    Err(error) => warn!(error = causes(&error).join(": "), "a part of a corpus is not offered"),
                }
            }
            // Parts of it are withdrawn if the race has ended in the meantime.
            self.remember(&request.race, *content, &shelf);
        }
        Ok(offered)
    }

    /// Offers nothing of other races any more, because this one has begun here.
    pub(super) fn begin(&self, race: &RaceId) {
        if let Some(shelf) = self.shelf() {
            self.turn_to(race, &shelf);
        }
    }

    /// Offers nothing of other races any more.
    fn turn_to(&self, race: &RaceId, shelf: &Shelf) {
        let mut offered = self.lock();
        if let Some((_, contents)) = offered.take_if(|(known, _)| known != race) {
            withdraw_from(shelf, contents);
        }
        offered.get_or_insert_with(|| (race.clone(), Vec::new()));
    }

    /// Remembers what is offered, unless the race has ended in the meantime.
    fn remember(&self, race: &RaceId, content: ContentHash, shelf: &Shelf) {
        match &mut *self.lock() {
            Some((known, contents)) if known == race => contents.push(content),
            Some(_) | None => withdraw_from(shelf, vec![content]),
        }
    }

    /// Offers nothing of this race any more.
    pub(super) fn withdraw(&self, race: &RaceId) {
        let Some((_, contents)) = self.lock().take_if(|(known, _)| known == race) else { return };
        if let Some(shelf) = self.shelf() {
            withdraw_from(&shelf, contents);
        }
    }

    /// The shelf alone, so that a host that ends need not wait until a large file is read.
    fn shelf(&self) -> Option<Arc<Shelf>> {
        Some(Arc::clone(self.host.get()?.shelf()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(RaceId, Vec<ContentHash>)>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn withdraw_from(shelf: &Shelf, contents: Vec<ContentHash>) {
    for content in contents {
        shelf.withdraw(content);
    }
}

/// Corpora of the race that this coordinator owns.
#[derive(Debug)]
pub(super) struct Shipping {
    own: Arc<CorpusOffers>,
    /// Who was asked to offer something.
    asked: Mutex<Vec<HostId>>,
}

/// One host with a file.
type Offer = (ShippingHost, ShippedFile);

/// What a host offers, or a sentence that says why it cannot.
type Offered = Result<Vec<ShippedFile>, String>;

impl Shipping {
    pub(super) fn new(own: Arc<CorpusOffers>) -> Self {
        Self { own, asked: Mutex::default() }
    }

    /// Finds out which of these drivers, and of this host, have the corpora of a race; what nobody has is got here.
    ///
    /// # Errors
    ///
    /// A sentence that names what cannot be had.
    pub(super) async fn find(
        &self,
        race: &RaceId,
        (plan, content): (&RacePlan, ContentHash),
        drivers: Vec<ShippingHost>,
        notice: &HostNotice,
    ) -> Result<Vec<ShippedFile>, String> {
        let host = self.own.host.get().ok_or_else(|| Ending.to_string())?;
        let files = self.own.driver.document_files(plan).map_err(|error| causes(&error).join(": "))?;
        let facts = host.status().await.facts;
        let id = host.id().ok_or_else(|| Ending.to_string())?;
        let own = ShippingHost { host: id, name: facts.name, address: host.address() };
        let drivers: Vec<_> = drivers.into_iter().filter(|driver| driver.host != id).collect();
        *self.lock() = drivers.iter().map(|driver| driver.host).collect();

        let mut offers: Vec<Offer> = Vec::new();
        for means in [Means::Find, Means::Unpack] {
            let files = missing(&files, &offers);
            if files.is_empty() {
                break;
            }
            let request = OfferCorpora { race: race.clone(), plan: content, files, means };
            let here = self.own.offer(race, plan, &request.files, means, about(&own, notice));
            let there = drivers.iter().map(|it| (it.clone(), ask(&host, it, &request, notice).boxed()));
            let asked = there.chain([(own.clone(), here.boxed())]).collect();
            offers.extend(gather(asked, notice).await);
        }
        let files = missing(&files, &offers);
        if !files.is_empty() {
            let offered = self.own.offer(race, plan, &files, Means::Download, about(&own, notice)).await?;
            offers.extend(offered.into_iter().map(|file| (own.clone(), file)));
        }
        let (mut shipped, others) = choose(offers, id);
        others.into_iter().for_each(|(host, message)| notice(host, message));
        let files = shipped.iter().map(|it| ((it.corpus.clone(), it.document_file.clone()), it.content)).collect();
        let request = OfferParts { race: race.clone(), plan: content, files };
        let here = async { (&own, self.own.offer_parts(&request, plan).await) };
        let ask = async |driver| (driver, ask_parts(&host, driver, &request).await);
        let there = drivers.iter().map(ask);
        let (here, there) = tokio::join!(here, join_all(there));
        for (host, parts) in there.into_iter().chain([here]) {
            match parts {
                Ok(parts) => add_parts(&mut shipped, host, parts),
                Err(error) => notice(host.name.clone(), format!("it does not offer parts of corpora: {error}")),
            }
        }
        Ok(shipped)
    }

    /// Has nobody offer anything of a race any more.
    pub(super) async fn withdraw(&self, race: &RaceId) {
        self.own.withdraw(race);
        let asked = std::mem::take(&mut *self.lock());
        let Some(host) = self.own.host.get() else { return };
        let withdraw = async |id| {
            let Some(peer) = host.peer(id) else { return };
            if let Err(error) = peer.call(&WithdrawCorpora { race: race.clone() }, WITHDRAW_WITHIN).await {
                debug!(%error, "corpora are withdrawn with the lease only");
            }
        };
        join_all(asked.into_iter().map(withdraw)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HostId>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells sentences of a host.
fn about(host: &ShippingHost, notice: &HostNotice) -> Arc<dyn Fn(String) + Send + Sync> {
    let (name, notice) = (host.name.clone(), Arc::clone(notice));
    Arc::new(move |message| notice(name.clone(), message))
}

/// Those of the files that nobody offers.
fn missing(files: &[(String, String)], offers: &[Offer]) -> FileNames {
    let is_offered = |(corpus, file): &(String, String)| {
        offers.iter().any(|(_, it)| it.corpus == *corpus && it.document_file == *file)
    };
    files.iter().filter(|names| !is_offered(names)).cloned().collect()
}

/// Waits for what hosts offer. One that cannot say it offers nothing, which is told.
async fn gather(asked: Vec<(ShippingHost, BoxFuture<'_, Offered>)>, notice: &HostNotice) -> Vec<Offer> {
    let mut awaited: Vec<_> = asked.iter().map(|(host, _)| host.name.clone()).collect();
    let answers = asked.into_iter().map(|(host, offered)| offered.map(|offered| (host, offered)));
    let mut answers: FuturesUnordered<_> = answers.collect();
    let mut offers = Vec::new();
    let mut is_news = std::pin::pin!(sleep(RaceTiming::default().wait_is_news));
    let mut was_told = false;
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some((host, offered)) => {
                    awaited.retain(|name| *name != host.name);
                    match offered {
                        Ok(files) => offers.extend(files.into_iter().map(|file| (host.clone(), file))),
                        Err(error) => notice(host.name, format!("it does not say which corpora it has: {error}")),
                    }
                }
                None => return offers,
            },
            () = &mut is_news, if !was_told => {
                was_told = true;
                for name in &awaited {
                    notice(name.clone(), "it reads its corpora to offer them to other hosts".to_owned());
                }
            }
        }
    }
}

/// What a host offers of the files that it is asked for.
async fn ask(host: &Host, driver: &ShippingHost, request: &OfferCorpora, notice: &HostNotice) -> Offered {
    let peer = host.peer(driver.host).ok_or("it is not connected")?;
    let mut news = peer.subscribe(request, ANSWER_WITHIN).await.map_err(|error| causes(&error).join(": "))?;
    let mut offered: Vec<ShippedFile> = Vec::new();
    while let Some(news) = timeout(SILENCE, news.next()).await.map_err(|_| silent())? {
        match news.map_err(|error| causes(&error).join(": "))? {
            CorpusNews::Noticed(message) => notice(driver.name.clone(), message),
            // Who has a file is known from who says so.
            CorpusNews::Offered(file) => {
                let file = ShippedFile { hosts: Vec::new(), parts: Vec::new(), ..file };
                let names = (file.corpus.clone(), file.document_file.clone());
                let is_new = offered.iter().all(|it| (&it.corpus, &it.document_file) != (&names.0, &names.1));
                if request.files.contains(&names) && is_new {
                    offered.push(file);
                }
            }
        }
    }
    Ok(offered)
}

/// Why a host is not waited for any longer.
fn silent() -> String {
    let hours = SILENCE.as_secs() / 3600;
    format!("it has said nothing for {hours} h while it looked for them; the race goes on without it, look at its disk")
}

/// Which parts of files a host offers.
async fn ask_parts(host: &Host, driver: &ShippingHost, request: &OfferParts) -> Result<Vec<(u32, Range<u64>)>, String> {
    let peer = host.peer(driver.host).ok_or("it is not connected")?;
    peer.call(request, ANSWER_WITHIN).await.map_err(|error| causes(&error).join(": "))?
}

/// Notes which parts of files a host has, unless it has all.
fn add_parts(shipped: &mut [ShippedFile], host: &ShippingHost, parts: Vec<(u32, Range<u64>)>) {
    for (number, bytes) in parts {
        if let Some(file) = shipped.get_mut(number as usize)
            && !file.hosts.contains(host)
            && bytes.start < bytes.end
            && bytes.end <= file.length
        {
            file.parts.push(ShippedPart { host: host.clone(), bytes });
        }
    }
}

/// Chooses one content for each file, with all who have it: that of the coordinator, else the one that most have. The
/// coordinator, which has other things to do, is the last to be asked for it. Also says who has another content, or says
/// something else of the same one.
fn choose(offers: Vec<Offer>, coordinator: HostId) -> (Vec<ShippedFile>, Vec<(String, String)>) {
    let mut contents: BTreeMap<(String, String), Vec<ShippedFile>> = BTreeMap::new();
    for (host, file) in offers {
        let of_file = contents.entry((file.corpus.clone(), file.document_file.clone())).or_default();
        let said =
            |it: &ShippedFile| it.content == file.content && it.length == file.length && it.offsets == file.offsets;
        match of_file.iter_mut().find(|it| said(it)) {
            Some(same) => same.hosts.push(host),
            None => of_file.push(ShippedFile { hosts: vec![host], ..file }),
        }
    }
    let (mut chosen, mut notices) = (Vec::new(), Vec::new());
    for mut of_file in contents.into_values() {
        let has_coordinator = |file: &ShippedFile| file.hosts.iter().any(|it| it.host == coordinator);
        of_file.sort_by_key(|file| (Reverse(has_coordinator(file)), Reverse(file.hosts.len()), file.content));
        let mut others = of_file.into_iter();
        let Some(mut file) = others.next() else { continue };
        file.hosts.sort_by_key(|it| it.host == coordinator);
        for other in others {
            let (name, corpus, from) = (&file.document_file, &file.corpus, &file.hosts[0].name);
            let message = if other.content == file.content {
                format!(
                    "what it says of its {name} of corpus {corpus} (length and line offsets) is not what {from} says of the \
                     same content, so nobody fetches it from there"
                )
            } else {
                format!(
                    "its {name} of corpus {corpus} ({} bytes) is another one than that of {from} ({} bytes), from which it \
                     fetches what its clients read",
                    other.length, file.length
                )
            };
            notices.extend(other.hosts.into_iter().map(|host| (host.name, message.clone())));
        }
        chosen.push(file);
    }
    (chosen, notices)
}

/// Hosts in the order in which one of them asks the others. Each begins with another one, so that none is asked for
/// everything; the coordinator is the last.
pub(super) fn in_turn(
    hosts: &[ShippingHost],
    asking: Option<HostId>,
    coordinator: Option<HostId>,
) -> Vec<&ShippingHost> {
    let (last, mut hosts): (Vec<_>, Vec<_>) = hosts.iter().partition(|it| Some(it.host) == coordinator);
    if let (Some(asking), false) = (asking, hosts.is_empty()) {
        // Ids are random.
        let turn = asking.as_u128() % hosts.len() as u128;
        hosts.rotate_left(turn as usize);
    }
    hosts.extend(last);
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    const COORDINATOR: HostId = HostId::from_random(1);

    fn host(number: u128) -> ShippingHost {
        let address = "127.0.0.1:1900".parse().unwrap();
        ShippingHost { host: HostId::from_random(number), name: format!("host-{number}"), address }
    }

    fn offer(number: u128, document_file: &str, content: u8) -> Offer {
        let file = ShippedFile {
            corpus: "places".to_owned(),
            document_file: document_file.to_owned(),
            content: ContentHash::from_bytes([content; 32]),
            length: content.into(),
            offsets: Vec::new(),
            hosts: Vec::new(),
            parts: Vec::new(),
        };
        (host(number), file)
    }

    /// Each file with its content and its hosts, and who is told that it has another one.
    fn chosen(offers: Vec<Offer>) -> (Vec<String>, Vec<(String, String)>) {
        let (files, notices) = choose(offers, COORDINATOR);
        let text = |file: &ShippedFile| {
            let hosts: Vec<_> = file.hosts.iter().map(|host| host.name.as_str()).collect();
            format!("{} {}: {}", file.document_file, file.content.as_bytes()[0], hosts.join(" "))
        };
        (files.iter().map(text).collect(), notices)
    }

    #[test]
    fn all_who_have_a_file_ship_it_and_the_coordinator_comes_last() {
        let offers = vec![offer(1, "a", 7), offer(2, "a", 7), offer(3, "a", 7), offer(3, "b", 8)];
        let (files, notices) = chosen(offers);
        assert_eq!(files, ["a 7: host-2 host-3 host-1", "b 8: host-3"]);
        assert!(notices.is_empty());
    }

    #[test]
    fn where_contents_differ_that_of_the_coordinator_counts_and_else_that_of_most() {
        let (files, notices) = chosen(vec![offer(2, "a", 7), offer(1, "a", 8), offer(3, "a", 7)]);
        assert_eq!(files, ["a 8: host-1"]);
        let told: Vec<_> = notices.iter().map(|(host, _)| host.as_str()).collect();
        assert_eq!(told, ["host-2", "host-3"]);
        assert!(notices[0].1.contains("its a of corpus places (7 bytes) is another one than that of host-1 (8 bytes)"));

        let (files, notices) = chosen(vec![offer(2, "a", 9), offer(3, "a", 7), offer(4, "a", 7)]);
        assert_eq!(files, ["a 7: host-3 host-4"]);
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn who_says_something_else_of_the_same_content_is_left_out() {
        let mut liar = offer(1, "a", 7);
        liar.1.length = 6;
        let offers = || vec![offer(2, "a", 7), offer(3, "a", 7), liar.clone()];
        let (files, notices) = choose(offers(), HostId::from_random(9));
        assert_eq!((files.len(), files[0].length, &files[0].hosts[..]), (1, 7, &[host(2), host(3)][..]));
        assert_eq!(notices.len(), 1);
        assert!(notices[0].1.contains("is not what host-2 says of the same content"), "{notices:?}");

        let (files, notices) = choose(offers(), COORDINATOR);
        assert_eq!((files.len(), files[0].length, &files[0].hosts[..]), (1, 6, &[host(1)][..]));
        assert_eq!(notices.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), ["host-2", "host-3"]);
    }

    #[test]
    fn parts_count_where_a_host_does_not_have_all_and_lie_within_the_file() {
        let (mut files, _) = choose(vec![offer(2, "a", 7), offer(3, "b", 8)], COORDINATOR);
        add_parts(&mut files, &host(3), vec![(0, 1..5), (1, 1..5), (0, 5..8), (0, 3..3), (2, 0..1)]);
        assert_eq!(files[0].parts, [ShippedPart { host: host(3), bytes: 1..5 }]);
        assert_eq!(files[1].parts, []);
    }

    #[test]
    fn only_what_nobody_offers_is_missing() {
        let files = ["a", "b"].map(|file| ("places".to_owned(), file.to_owned()));
        assert_eq!(missing(&files, &[offer(2, "b", 7)]), files[..1]);
        assert_eq!(missing(&files, &[]), files);
    }
    #[test]
    fn hosts_do_not_all_begin_with_the_same_one_and_end_with_the_coordinator() {
        let hosts = [1, 2, 3, 4].map(host);
        let mut first = Vec::new();
        for asking in 10..13 {
            let order = in_turn(&hosts, Some(HostId::from_random(asking)), Some(COORDINATOR));
            let mut order: Vec<_> = order.into_iter().map(|it| it.host.as_u128()).collect();
            first.push(order[0]);
            assert_eq!(order[3], 1);
            order.sort_unstable();
            assert_eq!(order, [1, 2, 3, 4]);
        }
        first.sort_unstable();
        assert_eq!(first, [2, 3, 4]);
        assert_eq!(in_turn(&hosts[..1], Some(COORDINATOR), None), [&hosts[0]]);
        assert!(in_turn(&[], None, Some(COORDINATOR)).is_empty());
    }
}
