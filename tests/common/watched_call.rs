//! Real browsers in calls, one direct and one by the relay, and how long a picture stood still.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::service::Service;

/// How long the browsers may take to be in their calls.
const CALLED_WITHIN: Duration = Duration::from_secs(120);
/// How long they may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
/// What is watched: pictures at both ends of each call, and that no page says it has lost the server.
pub(crate) const CHANNELS: [&str; 3] = ["call", "call-room", "relayed-call"];

/// When each channel was well, in milliseconds since 1970, in the order in which it was told.
type Signs = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

pub(crate) struct WatchedCall {
    browsers: Child,
    signs: Signs,
}

impl WatchedCall {
    /// Starts the browsers, and waits until everybody sees the other.
    pub(crate) fn start(service: &Service) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/watch.mjs");
        let mut command = Command::new("node");
        command.arg(script).env("URL", service.url()).env("CA", service.ca_file());
        // In no network of their own, and told of nothing else.
        command.env("NETWORKS", ",").env("RELAYED", "1").env("RTCCTL", "[]");
        let mut browsers = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(browsers.stdout.take().unwrap());
        let signs = Signs::default();
        let heard = Arc::clone(&signs);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((channel, at)) = line.split_once(' ')
                    && let Ok(at) = at.parse()
                {
                    heard.lock().unwrap().entry(channel.to_owned()).or_default().push(at);
                }
            }
        });
        let call = Self { browsers, signs };
        super::common::until("the browsers see each other", CALLED_WITHIN, || {
            let signs = call.signs.lock().unwrap();
            CHANNELS.iter().all(|channel| signs.get(*channel).is_some_and(|signs| signs.len() > 3))
        });
        call
    }

    /// Ends the calls, once they were told of after `until`. The longest that each channel was not well `from` then.
    pub(crate) fn longest_pauses(self, from: u64, until: u64) -> BTreeMap<&'static str, Duration> {
        super::common::until("the calls still stand", CALLED_WITHIN, || {
            let signs = self.signs.lock().unwrap();
            CHANNELS.iter().all(|channel| signs[*channel].iter().any(|at| *at > until))
        });
        let signs = self.signs.lock().unwrap();
        let longest = |channel: &str| {
            let mut moments = signs[channel].clone();
            moments.sort_unstable();
            let around = moments.windows(2).filter(|pair| pair[1] > from && pair[0] < until);
            Duration::from_millis(around.map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
        };
        CHANNELS.iter().map(|channel| (*channel, longest(channel))).collect()
    }
}

impl Drop for WatchedCall {
    fn drop(&mut self) {
        // The end of its input is what it ends by, with the browsers that it has started.
        drop(self.browsers.stdin.take());
        let end = rtcctl::sys::clock::now().mono + ENDED_WITHIN;
        while matches!(self.browsers.try_wait(), Ok(None)) && rtcctl::sys::clock::now().mono < end {
            thread::park_timeout(Duration::from_millis(50));
        }
        let _ = self.browsers.kill();
        let _ = self.browsers.wait();
    }
}
