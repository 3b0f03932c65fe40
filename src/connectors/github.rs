//! `github`, built in: repositories, open issues and pull requests, and notifications of a token's
//! user, by GitHub's REST API (docs.github.com/rest, version 2022-11-28).
//!
//! ```text
//! /user/repos ──each page──▶ /repos/:owner/:name/issues, of repositories with open issues
//!                            (which include pull requests)
//! /notifications
//! ```
//!
//! Every page is asked for with the `ETag` that it had last time, which GitHub does not count
//! against the rate limit; a page that is unchanged stands for what it held then. What is no longer
//! among the open issues is published once more, as closed.

use super::exchange::{Found, PollError, Reading, Request, Response, Source, Step, refused};
use crate::api::connectors::finding::Finding;
use crate::api::connectors::span::elements;
use crate::limits::POLL_ENTITIES_MAX;
use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LINK};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use url::Url;

/// The stream of its events.
pub(super) const STREAM: &str = "github";
const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Characters of GitHub's own words that an error repeats.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// A property, and its JSON Pointer in GitHub's answer.
type Taken = (&'static str, &'static str);

const REPOSITORY: &[Taken] = &[
    ("full_name", "/full_name"),
    ("owner", "/owner/login"),
    ("description", "/description"),
    ("url", "/html_url"),
    ("private", "/private"),
    ("fork", "/fork"),
    ("archived", "/archived"),
    ("language", "/language"),
    ("default_branch", "/default_branch"),
    ("stars", "/stargazers_count"),
    ("forks", "/forks_count"),
    ("open_issues", "/open_issues_count"),
    ("pushed_at", "/pushed_at"),
    ("updated_at", "/updated_at"),
];
const ISSUE: &[Taken] = &[
    ("number", "/number"),
    ("title", "/title"),
    ("state", "/state"),
    ("author", "/user/login"),
    ("url", "/html_url"),
    ("comments", "/comments"),
    ("draft", "/draft"),
    ("milestone", "/milestone/title"),
    ("created_at", "/created_at"),
    ("updated_at", "/updated_at"),
];
const NOTIFICATION: &[Taken] = &[
    ("reason", "/reason"),
    ("unread", "/unread"),
    ("title", "/subject/title"),
    ("type", "/subject/type"),
    ("subject_url", "/subject/url"),
    ("repository", "/repository/full_name"),
    ("updated_at", "/updated_at"),
];

/// What a page lists.
#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    Repositories,
    /// Of this repository.
    Issues(Box<str>),
    Notifications,
}

/// What was learnt of a page, for when it is unchanged.
#[derive(Debug, Clone, Default)]
struct Page {
    etag: Option<HeaderValue>,
    next: Option<Url>,
    /// Repositories on it, and whether they have open issues.
    repositories: Vec<(Box<str>, bool)>,
    /// Entities on it that are open or unread while they are listed.
    listed: Vec<String>,
}

/// One poll.
#[derive(Debug, Default)]
struct Walk {
    waiting: VecDeque<(List, Url)>,
    asked: Option<(List, Url)>,
    pages: HashMap<Url, Page>,
    repositories: BTreeSet<Box<str>>,
    findings: Vec<Finding>,
    /// Of the findings.
    bytes: usize,
    /// GitHub does not show this token's notifications.
    lacks_notifications: bool,
    /// Items that were not what GitHub documents.
    rejected: u64,
}

impl Walk {
    fn add(&mut self, finding: Finding) {
        self.bytes = self.bytes.saturating_add(finding.held_bytes());
        self.findings.push(finding);
    }
}

/// The source, with what it remembers from poll to poll.
#[derive(Debug)]
pub(super) struct GitHub {
    base: Url,
    /// Before all entity ids: the owner's namespace and a slash, or nothing.
    prefix: String,
    walk: Walk,
    /// The pages of the last poll whose findings are all published.
    known: HashMap<Url, Page>,
}

impl GitHub {
    /// For the API at `base`. `owner`: the namespace that its entities lie in; empty for none.
    pub(super) fn new(base: Url, owner: &str) -> Self {
        let prefix = if owner.is_empty() {
            "github/".to_owned()
        } else {
            format!("{owner}/github/")
        };
        Self {
            base,
            prefix,
            walk: Walk::default(),
            known: HashMap::new(),
        }
    }

    /// An address below the base, which may have a path of its own (GitHub Enterprise).
    fn address(&self, path: &str) -> Result<Url, PollError> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}"))
            .ok()
            .ok_or_else(|| PollError::new("GitHub named a repository that is none"))
    }

    fn begin(&mut self) -> Result<(), PollError> {
        let repositories = self.address("/user/repos?per_page=100")?;
        let notifications = self.address("/notifications?per_page=100")?;
        self.walk = Walk::default();
        self.walk
            .waiting
            .push_back((List::Repositories, repositories));
        self.walk
            .waiting
            .push_back((List::Notifications, notifications));
        Ok(())
    }

    fn ask(&mut self) -> Step {
        let Some((list, url)) = self.walk.waiting.pop_front() else {
            return Step::Done(self.finish());
        };
        let mut headers = HeaderMap::new();
        headers.insert(API_VERSION, HeaderValue::from_static("2022-11-28"));
        let request = Request {
            url: url.clone(),
            accept: "application/vnd.github+json",
            headers,
            etag: self.known.get(&url).and_then(|page| page.etag.clone()),
            reading: Reading::Text,
        };
        self.walk.asked = Some((list, url));
        Step::Ask(Box::new(request))
    }

    fn take(&mut self, response: &Response, now_seconds: u64) -> Result<(), PollError> {
        let Some((list, url)) = self.walk.asked.take() else {
            return Ok(());
        };
        let page = match (response.status, self.known.get(&url)) {
            (200, _) => self.read(&list, response)?,
            (304, Some(page)) => page.clone(),
            // Issues may be switched off, and a repository may go between two requests.
            (403 | 404 | 410, _) if !is_limited(response) && list != List::Repositories => {
                self.walk.lacks_notifications |= list == List::Notifications;
                Page::default()
            }
            _ => return Err(failed(response, now_seconds)),
        };
        if let Some(next) = &page.next {
            if next.origin() != self.base.origin() {
                return Err(PollError::new("GitHub's next page lies on another server"));
            }
            if self.walk.pages.contains_key(next) || *next == url {
                return Err(PollError::new("GitHub's pages go in a circle"));
            }
            self.walk.waiting.push_front((list.clone(), next.clone()));
        }
        for (name, has_issues) in &page.repositories {
            self.walk.repositories.insert(name.clone());
            if *has_issues {
                let issues =
                    self.address(&format!("/repos/{name}/issues?state=open&per_page=100"))?;
                self.walk
                    .waiting
                    .push_back((List::Issues(name.clone()), issues));
            }
        }
        if self.walk.findings.len() > POLL_ENTITIES_MAX {
            return Err(PollError::new(format!(
                "there are more than {POLL_ENTITIES_MAX} repositories, issues and notifications"
            )));
        }
        self.walk.pages.insert(url, page);
        Ok(())
    }

    fn read(&mut self, list: &List, response: &Response) -> Result<Page, PollError> {
        let shape = || PollError::new("GitHub's answer is not what its REST API documents");
        let items = elements(response.text(), POLL_ENTITIES_MAX.saturating_add(1));
        let mut page = Page {
            etag: response.headers.get(ETAG).cloned(),
            next: next_page(&response.headers, &self.base),
            ..Page::default()
        };
        // One at a time: a tree of all of them takes many times the memory of their text.
        for item in items.ok_or_else(shape)?.kept {
            let item: Value = serde_json::from_slice(item).map_err(|error| {
                PollError::new(format!("GitHub's answer is not valid JSON: {error}"))
            })?;
            match self.item(list, &item, &mut page) {
                Some(finding) => self.walk.add(finding),
                None => self.walk.rejected = self.walk.rejected.saturating_add(1),
            }
        }
        Ok(page)
    }

    /// What an item of a page says; `None` if it is not what GitHub documents.
    fn item(&self, list: &List, item: &Value, page: &mut Page) -> Option<Finding> {
        match list {
            List::Repositories => {
                let name = item.get("full_name").and_then(Value::as_str);
                let name = name.filter(|it| is_full_name(it))?;
                let open = item.get("open_issues_count").and_then(Value::as_u64);
                page.repositories.push((name.into(), open != Some(0)));
                Some(self.finding(&format!("repo/{name}"), taken(item, REPOSITORY)))
            }
            List::Issues(repository) => {
                let number = item.get("number").and_then(Value::as_u64)?;
                let kind = match item.get("pull_request") {
                    Some(_) => "pull",
                    None => "issue",
                };
                let mut properties = taken(item, ISSUE);
                properties.insert("repository".to_owned(), (**repository).into());
                properties.insert("labels".to_owned(), names(item, "labels", "name"));
                properties.insert("assignees".to_owned(), names(item, "assignees", "login"));
                let finding = self.finding(&format!("{kind}/{repository}/{number}"), properties);
                page.listed.push(finding.entity_id.clone());
                Some(finding)
            }
            List::Notifications => {
                let id = item.get("id").and_then(Value::as_str)?;
                let finding =
                    self.finding(&format!("notification/{id}"), taken(item, NOTIFICATION));
                page.listed.push(finding.entity_id.clone());
                Some(finding)
            }
        }
    }

    fn finding(&self, id: &str, properties: Map<String, Value>) -> Finding {
        Finding {
            entity_id: format!("{}{id}", self.prefix),
            properties: Value::Object(properties).to_string(),
        }
    }

    /// All findings, and one for each issue or notification that is no longer listed.
    fn finish(&mut self) -> Found {
        let mut findings = std::mem::take(&mut self.walk.findings);
        if self.walk.rejected > 0 {
            // An item that can't be read may be one that was listed before, so nothing is called
            // closed.
            let count = self.walk.rejected;
            let rejected = format!(
                "{count} items of GitHub's answers were left out: they are not what its REST API documents"
            );
            return Found {
                findings,
                rejected: Some(rejected),
            };
        }
        self.add_unlisted(&mut findings);
        Found {
            findings,
            rejected: None,
        }
    }

    fn add_unlisted(&self, findings: &mut Vec<Finding>) {
        let pages = self.walk.pages.values();
        let listed: BTreeSet<&String> = pages.flat_map(|page| &page.listed).collect();
        for id in self.known.values().flat_map(|page| &page.listed) {
            if listed.contains(id) {
                continue;
            }
            let rest = id.strip_prefix(&self.prefix).unwrap_or_default();
            let (kind, rest) = rest.split_once('/').unwrap_or_default();
            let properties = match kind {
                "notification" if !self.walk.lacks_notifications => r#"{"unread":false}"#,
                // Of a repository that is out of sight nothing is known any more.
                "issue" | "pull" if self.is_in_sight(rest) => r#"{"state":"closed"}"#,
                _ => continue,
            };
            findings.push(Finding {
                entity_id: id.clone(),
                properties: properties.to_owned(),
            });
        }
    }

    fn is_in_sight(&self, issue: &str) -> bool {
        let repository = issue.rsplit_once('/').map(|(repository, _)| repository);
        repository.is_some_and(|it| self.walk.repositories.contains(it))
    }
}

impl Source for GitHub {
    fn step(&mut self, answer: Option<Response>, now_seconds: u64) -> Result<Step, PollError> {
        match answer {
            None => self.begin()?,
            Some(response) => self.take(&response, now_seconds)?,
        }
        Ok(self.ask())
    }

    fn commit(&mut self) {
        self.known = std::mem::take(&mut self.walk.pages);
    }

    fn held_bytes(&self) -> usize {
        self.walk.bytes
    }
}

/// `owner/name`, of the characters that GitHub allows.
fn is_full_name(text: &str) -> bool {
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !name.is_empty() && name.bytes().all(allowed) && name != "." && name != ".."
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
}

/// The properties that an item has.
fn taken(item: &Value, properties: &[Taken]) -> Map<String, Value> {
    let found = properties
        .iter()
        .filter_map(|(name, pointer)| Some(((*name).to_owned(), item.pointer(pointer)?.clone())));
    found.collect()
}

/// The member `name` of each object in the list `member`.
fn names(item: &Value, member: &str, name: &str) -> Value {
    let list = item.get(member).and_then(Value::as_array);
    let all = list.into_iter().flatten();
    all.filter_map(|it| it.get(name))
        .cloned()
        .collect::<Vec<_>>()
        .into()
}

/// The target of `rel="next"` in `Link` fields (RFC 8288 §3).
fn next_page(headers: &HeaderMap, base: &Url) -> Option<Url> {
    for field in headers.get_all(LINK) {
        let mut rest = field.to_str().ok()?;
        while let Some((_, from)) = rest.split_once('<') {
            let (target, parameters) = from.split_once('>')?;
            let (parameters, behind) = parameters.split_once('<').unwrap_or((parameters, ""));
            if parameters.replace(' ', "").contains("rel=\"next\"") {
                return base.join(target).ok();
            }
            rest = from.get(from.len().saturating_sub(behind.len()).saturating_sub(1)..)?;
            if behind.is_empty() {
                break;
            }
        }
    }
    None
}

fn number(response: &Response, name: &HeaderName) -> Option<u64> {
    response.headers.get(name)?.to_str().ok()?.parse().ok()
}

/// True if an answer refuses for a rate limit, primary or secondary.
fn is_limited(response: &Response) -> bool {
    let is_refusal = matches!(response.status, 403 | 429);
    let has_none_left = number(response, &RATE_REMAINING) == Some(0);
    is_refusal && (has_none_left || response.headers.contains_key(http::header::RETRY_AFTER))
}

fn failed(response: &Response, now_seconds: u64) -> PollError {
    let mut error = refused(response, now_seconds);
    error.message = error.message.replacen("the source", "GitHub", 1);
    let limited = is_limited(response) || response.status == 429;
    if limited && error.retry_after.is_none() {
        // Primary limit: until it is reset. Without a word of when: a minute, as GitHub asks.
        let reset = number(response, &RATE_RESET).map(|at| at.saturating_sub(now_seconds));
        error.retry_after = Some(Duration::from_secs(reset.unwrap_or(60)));
    }
    let why = match response.status {
        401 => "the token is not valid",
        _ if limited => "the rate limit is used up",
        _ => "",
    };
    let document: Option<Value> = serde_json::from_slice(response.text()).ok();
    let told = document.as_ref().and_then(|it| it.get("message")?.as_str());
    let told: String = told
        .unwrap_or_default()
        .chars()
        .take(MESSAGE_CHARACTERS_MAX)
        .collect();
    for part in [why, told.as_str()].into_iter().filter(|it| !it.is_empty()) {
        error.message.push_str(": ");
        error.message.push_str(part);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::response;
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_700_000_000;

    /// Status, headers and body.
    type Answer = (u16, Vec<(&'static str, &'static str)>, Value);

    /// A GitHub of one user, small enough to be read.
    #[derive(Default)]
    struct Api {
        /// By path and query.
        answers: HashMap<&'static str, Answer>,
        /// What was asked, with the entity tag that came along.
        asked: Vec<(String, Option<String>)>,
        /// What the last poll said of items that it left out.
        rejected: Option<String>,
    }

    const REPOS: &str = "/user/repos?per_page=100";
    const ISSUES: &str = "/repos/ann/tools/issues?state=open&per_page=100";
    const NOTIFICATIONS: &str = "/notifications?per_page=100";

    impl Api {
        fn of_ann() -> Self {
            let mut api = Self::default();
            api.answer(
                REPOS,
                json!([repository("ann/tools", 2), repository("ann/quiet", 0)]),
            );
            api.answer(ISSUES, json!([issue(1), pull(2)]));
            let notification = json!({
                "id": "77", "unread": true, "reason": "mention", "updated_at": "2026-01-01T00:00:00Z",
                "subject": {"title": "Look", "type": "Issue", "url": "https://api/x"},
                "repository": {"full_name": "ann/tools"},
            });
            api.answer(NOTIFICATIONS, json!([notification]));
            api
        }

        fn answer(&mut self, path: &'static str, body: Value) {
            self.answers
                .insert(path, (200, vec![("etag", "\"1\"")], body));
        }

        fn refuse(
            &mut self,
            path: &'static str,
            status: u16,
            headers: &[(&'static str, &'static str)],
        ) {
            let body = json!({"message": "no such luck"});
            self.answers.insert(path, (status, headers.to_vec(), body));
        }

        fn poll(&mut self, source: &mut GitHub) -> Result<Vec<Finding>, PollError> {
            self.asked.clear();
            let mut answer = None;
            for _ in 0..50 {
                let request = match source.step(answer.take(), NOW)? {
                    Step::Done(found) => {
                        self.rejected = found.rejected;
                        return Ok(found.findings);
                    }
                    Step::Ask(request) => request,
                };
                let path = &request.url[url::Position::BeforePath..];
                let etag = request.etag.map(|it| it.to_str().unwrap().to_owned());
                self.asked.push((path.to_owned(), etag.clone()));
                let (status, headers, body) =
                    self.answers.get(path).unwrap_or_else(|| panic!("{path}"));
                let own = headers
                    .iter()
                    .find(|(name, _)| *name == "etag")
                    .map(|(_, it)| *it);
                answer = Some(match etag {
                    Some(etag) if Some(&*etag) == own => response(304, &[], ""),
                    _ => response(*status, headers, &body.to_string()),
                });
            }
            panic!("it never ends");
        }
    }

    fn repository(name: &str, open: u64) -> Value {
        json!({"full_name": name, "owner": {"login": "ann"}, "private": false, "stargazers_count": 3, "open_issues_count": open})
    }

    fn issue(number: u64) -> Value {
        json!({
            "number": number, "title": "It breaks", "state": "open", "user": {"login": "bob"}, "comments": 4,
            "labels": [{"name": "bug"}, {"name": "p1"}], "assignees": [{"login": "ann"}], "body": "long",
        })
    }

    fn pull(number: u64) -> Value {
        let mut pull = issue(number);
        pull["pull_request"] = json!({"url": "https://api/pulls"});
        pull
    }

    fn github(owner: &str) -> GitHub {
        GitHub::new(Url::parse("https://api.github.com").unwrap(), owner)
    }

    fn properties(finding: &Finding) -> Value {
        serde_json::from_str(&finding.properties).unwrap()
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        let mut ids: Vec<_> = findings.iter().map(|it| it.entity_id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn repositories_issues_pull_requests_and_notifications_are_found() {
        let mut api = Api::of_ann();
        let found = api.poll(&mut github("")).unwrap();
        assert_eq!(
            ids(&found),
            [
                "github/issue/ann/tools/1",
                "github/notification/77",
                "github/pull/ann/tools/2",
                "github/repo/ann/quiet",
                "github/repo/ann/tools",
            ]
        );
        let of = |id: &str| properties(found.iter().find(|it| it.entity_id == id).unwrap());
        let issue = of("github/issue/ann/tools/1");
        assert_eq!(issue["labels"], json!(["bug", "p1"]));
        assert_eq!(issue["assignees"], json!(["ann"]));
        assert_eq!(
            (&issue["author"], &issue["repository"]),
            (&json!("bob"), &json!("ann/tools"))
        );
        assert_eq!(issue.get("body"), None);
        assert_eq!(of("github/repo/ann/tools")["stars"], json!(3));
        assert_eq!(of("github/notification/77")["reason"], json!("mention"));
        let asked: Vec<_> = api.asked.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            asked,
            [REPOS, NOTIFICATIONS, ISSUES],
            "nothing of a repository without open issues"
        );
        let in_namespace = api.poll(&mut github("house")).unwrap();
        assert!(
            ids(&in_namespace)
                .iter()
                .all(|id| id.starts_with("house/github/"))
        );
    }

    #[test]
    fn an_unchanged_page_is_not_read_again_and_what_is_gone_from_it_is_closed() {
        let mut api = Api::of_ann();
        let mut source = github("");
        api.poll(&mut source).unwrap();
        api.poll(&mut source).unwrap();
        assert!(
            api.asked.iter().all(|(_, etag)| etag.is_none()),
            "nothing was published yet"
        );
        source.commit();
        assert_eq!(api.poll(&mut source).unwrap(), []);
        assert_eq!(api.asked.len(), 3);
        assert!(api.asked.iter().all(|(_, etag)| etag.is_some()));
        source.commit();
        // One is closed, the other changes, and the notification is read.
        api.answers
            .insert(ISSUES, (200, vec![("etag", "\"2\"")], json!([pull(2)])));
        api.answers
            .insert(NOTIFICATIONS, (200, vec![("etag", "\"2\"")], json!([])));
        let found = api.poll(&mut source).unwrap();
        assert_eq!(
            ids(&found),
            [
                "github/issue/ann/tools/1",
                "github/notification/77",
                "github/pull/ann/tools/2"
            ]
        );
        for finding in &found {
            match finding.entity_id.as_str() {
                "github/issue/ann/tools/1" => assert_eq!(properties(finding)["state"], "closed"),
                "github/notification/77" => assert_eq!(properties(finding)["unread"], false),
                _ => assert_eq!(properties(finding)["state"], "open"),
            }
        }
        source.commit();
        assert_eq!(api.poll(&mut source).unwrap(), [], "it is said once");
        // The last one is closed: nothing is asked of a repository without open issues.
        api.answers.insert(
            REPOS,
            (
                200,
                vec![("etag", "\"3\"")],
                json!([repository("ann/tools", 0)]),
            ),
        );
        let found = api.poll(&mut source).unwrap();
        assert_eq!(
            ids(&found),
            ["github/pull/ann/tools/2", "github/repo/ann/tools"]
        );
    }

    #[test]
    fn what_is_out_of_sight_is_not_called_closed() {
        let mut api = Api::of_ann();
        let mut source = github("");
        api.poll(&mut source).unwrap();
        source.commit();
        api.answers.insert(REPOS, (200, vec![], json!([])));
        api.refuse(NOTIFICATIONS, 403, &[]);
        assert_eq!(api.poll(&mut source).unwrap(), []);
    }

    #[test]
    fn pages_are_followed_to_the_last_one_of_the_same_server() {
        let mut api = Api::of_ann();
        let link = "<https://api.github.com/user/repos?per_page=100&page=2>; rel=\"next\", <https://api.github.com/user/repos?page=2>; rel=\"last\"";
        api.answers.insert(
            REPOS,
            (
                200,
                vec![("link", link), ("etag", "\"1\"")],
                json!([repository("ann/one", 0)]),
            ),
        );
        let last = "<https://api.github.com/user/repos?per_page=100>; rel=\"first\"";
        api.answers.insert(
            "/user/repos?per_page=100&page=2",
            (200, vec![("link", last)], json!([repository("ann/two", 0)])),
        );
        let mut source = github("");
        let found = api.poll(&mut source).unwrap();
        assert_eq!(
            ids(&found),
            [
                "github/notification/77",
                "github/repo/ann/one",
                "github/repo/ann/two"
            ]
        );
        source.commit();
        let again = api.poll(&mut source).unwrap();
        assert_eq!(
            ids(&again),
            ["github/repo/ann/two"],
            "an unchanged page still has its next one"
        );
        for (next, part) in [
            ("<https://evil.example/x>; rel=\"next\"", "another server"),
            (
                "<https://api.github.com/user/repos?per_page=100>; rel=\"next\"",
                "in a circle",
            ),
        ] {
            api.answers
                .insert(REPOS, (200, vec![("link", next)], json!([])));
            let error = api.poll(&mut github("")).unwrap_err();
            assert!(error.message.contains(part), "{error:?}");
        }
    }

    #[test]
    fn refusals_say_why_and_rate_limits_until_when() {
        let check =
            |status, headers: &[(&'static str, &'static str)], part: &str, seconds: Option<u64>| {
                let mut api = Api::of_ann();
                api.refuse(REPOS, status, headers);
                let error = api.poll(&mut github("")).unwrap_err();
                assert!(error.message.contains(part), "{error:?}");
                assert!(error.message.contains("no such luck"), "{error:?}");
                assert_eq!(error.retry_after.map(|it| it.as_secs()), seconds);
            };
        check(401, &[], "token is not valid", None);
        check(500, &[], "GitHub answered 500", None);
        let primary = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1700000300"),
        ];
        check(403, &primary, "rate limit", Some(300));
        check(403, &[("retry-after", "30")], "rate limit", Some(30));
        check(429, &[], "rate limit", Some(60));
        check(
            403,
            &[("x-ratelimit-remaining", "5")],
            "403 Forbidden",
            None,
        );
        // In the middle of a poll as well as at its beginning.
        let mut api = Api::of_ann();
        api.refuse(ISSUES, 403, &primary);
        let error = api.poll(&mut github("")).unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(300)));
    }

    #[test]
    fn an_answer_of_another_shape_fails() {
        for body in [json!({}), json!("x")] {
            let mut api = Api::of_ann();
            api.answer(REPOS, body.clone());
            let error = api.poll(&mut github("")).unwrap_err();
            assert!(error.message.contains("documents"), "{body}: {error:?}");
        }
    }

    #[test]
    fn an_item_of_another_shape_is_left_out_alone_and_closes_nothing() {
        let mut api = Api::of_ann();
        let mut source = github("");
        let all = api.poll(&mut source).unwrap().len();
        assert_eq!(api.rejected, None);
        source.commit();
        let changed = |body: Value| (200, vec![("etag", "\"2\"")], body);
        for (path, body) in [
            (REPOS, json!([{}, repository("ann/tools", 2)])),
            (
                REPOS,
                json!([{"full_name": "../../x"}, repository("ann/tools", 2)]),
            ),
            (
                REPOS,
                json!([{"full_name": "a/b/c"}, repository("ann/tools", 2)]),
            ),
            (ISSUES, json!([{}, pull(2)])),
            (NOTIFICATIONS, json!([{"id": 7}])),
        ] {
            api = Api::of_ann();
            api.answers.insert(path, changed(body));
            let found = api.poll(&mut source).unwrap();
            assert!(found.len() < all);
            assert!(found.iter().all(|it| properties(it)["state"] != "closed"));
            let rejected = api.rejected.clone().unwrap();
            assert!(rejected.starts_with("1 items of GitHub"), "{rejected}");
        }
    }

    #[test]
    fn an_enterprise_server_has_a_path_of_its_own() {
        let mut source = GitHub::new(Url::parse("http://localhost:8080/api/v3/").unwrap(), "");
        let Ok(Step::Ask(request)) = source.step(None, NOW) else {
            panic!("it begins with a question");
        };
        assert_eq!(
            request.url.as_str(),
            "http://localhost:8080/api/v3/user/repos?per_page=100"
        );
    }
}
