//! Puts runs side by side: medians, ratios in pairs, targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::median;
use crate::server::Kind;
use crate::traffic::Shown;
use crate::works::{Figures, Target, Work};

/// Everything that was seen of one work: for each server its figures by pair; `None` where a run failed.
pub(crate) struct Seen<'a> {
    pub(crate) work: &'a Work,
    pub(crate) runs: BTreeMap<Kind, Vec<Option<Figures>>>,
    pub(crate) complaints: Vec<String>,
}

/// Median and extremes.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let median = median(values)?;
        let (min, max) =
            values.iter().fold((f64::MAX, f64::MIN), |(min, max), value| (min.min(*value), max.max(*value)));
        Some(Self { median, min, max })
    }

    fn text(self) -> String {
        format!("{:.2} [{:.2}-{:.2}]", self.median, self.min, self.max)
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

impl Seen<'_> {
    fn figures(&self, kind: Kind) -> impl Iterator<Item = &Figures> {
        self.runs.get(&kind).into_iter().flatten().flatten()
    }

    fn values(&self, kind: Kind) -> Option<Spread> {
        Spread::of(&self.figures(kind).map(|figures| figures.value).collect::<Vec<_>>())
    }

    /// A server's figures by those of coturn in the same pair.
    fn ratios(&self, kind: Kind) -> Option<Spread> {
        let (these, those) = (self.runs.get(&kind)?, self.runs.get(&Kind::Coturn)?);
        let pairs =
            these.iter().zip(those).filter_map(|(this, that)| Some((this.as_ref()?.value, that.as_ref()?.value)));
        Spread::of(&pairs.filter(|(_, that)| *that > 0.0).map(|(this, that)| this / that).collect::<Vec<_>>())
    }

    fn traffic(&self, kind: Kind, field: impl Fn(&Shown) -> f64) -> Option<f64> {
        median(&self.figures(kind).filter_map(|figures| figures.traffic.as_ref()).map(field).collect::<Vec<_>>())
    }

    /// Microseconds of median round trip that gathering adds.
    fn added_delay(&self) -> Option<f64> {
        let rtt = |kind| self.traffic(kind, |it| it.rtt_p50_us);
        let best = [Kind::Coturn, Kind::RtcctlLow].into_iter().filter_map(rtt).fold(f64::MAX, f64::min);
        Some(rtt(Kind::Rtcctl)? - best)
    }

    fn sum(&self, kind: Kind, field: impl Fn(&Shown) -> u64) -> u64 {
        self.figures(kind).filter_map(|figures| figures.traffic.as_ref()).map(field).sum()
    }

    /// Whether the target is met, where there is one and something to compare.
    fn is_met(&self) -> Option<bool> {
        match self.work.target {
            Target::Ratio(limit) => Some(self.ratios(Kind::Rtcctl)?.median <= limit),
            Target::RatioAndDelay(limit, delay) => {
                Some(self.ratios(Kind::Rtcctl)?.median <= limit && self.added_delay()? <= delay)
            }
            Target::AtMost(limit) => Some(self.values(Kind::Rtcctl)?.median <= limit),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.work.target {
            Target::Ratio(limit) => format!("<= {limit:.2} x"),
            Target::RatioAndDelay(limit, delay) => format!("<= {limit:.2} x, <= {delay} us added"),
            Target::AtMost(limit) => format!("<= {limit}"),
            Target::None => "none".to_owned(),
        }
    }

    /// One line of the table for each server, and what went wrong.
    pub(crate) fn text(&self) -> String {
        let verdict = self.is_met().map_or("", |is_met| if is_met { ", met" } else { ", MISSED" });
        let mut text = format!(
            "{}: {} ({}; target {}{verdict})\n",
            self.work.name,
            self.work.what,
            self.work.figure,
            self.target()
        );
        for kind in self.work.kinds {
            let Some(values) = self.values(*kind) else { continue };
            let ratio = self.ratios(*kind).filter(|_| *kind != Kind::Coturn);
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{} x", ratio.text()));
            let _ = write!(text, "  {:<13} {:<22} {ratio:<22}", kind.name(), values.text());
            if self.traffic(*kind, |_| 0.0).is_some() {
                let of = |field: fn(&Shown) -> f64| self.traffic(*kind, field).unwrap_or(f64::NAN);
                let wrong = self.sum(*kind, |it| it.corrupted + it.misdelivered);
                let _ = write!(
                    text,
                    " {:>4.0}k pps, rtt {:.0}/{:.0} us, lost {} of {}, wrong {wrong}, load {:.0} % (generator {:.0} %), {:.2} sleeps/packet",
                    of(|it| it.pps) / 1000.0,
                    of(|it| it.rtt_p50_us),
                    of(|it| it.rtt_p90_us),
                    self.sum(*kind, |it| it.lost),
                    self.sum(*kind, |it| it.sent),
                    of(|it| it.load) * 100.0,
                    of(|it| it.generator_load) * 100.0,
                    of(|it| it.sleeps_per_packet),
                );
                let late = self.sum(*kind, |it| it.late);
                if late > 0 {
                    let _ = write!(text, ", {late} late or twice");
                }
                let kernel = of(|it| it.kernel_us_per_packet);
                if kernel > 0.0 {
                    let _ = write!(text, ", {kernel:.2} us of it in NAPI");
                }
            }
            if let Some(note) = self.figures(*kind).last().map(|figures| figures.note.as_str()) {
                let _ = write!(text, " {note}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        if let (Target::RatioAndDelay(..), Some(delay)) = (self.work.target, self.added_delay()) {
            let _ = writeln!(
                text,
                "  rtcctl adds {delay:.0} us to the best median round trip of a server without gathering"
            );
        }
        for complaint in &self.complaints {
            let _ = writeln!(text, "  FAILED: {complaint}");
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let servers: serde_json::Map<String, Value> = self
            .runs
            .iter()
            .map(|(kind, runs)| {
                let summary = json!({
                    "value": self.values(*kind).map(Spread::json),
                    "ratio_to_coturn": self.ratios(*kind).map(Spread::json),
                    "runs": runs,
                });
                (kind.name().to_owned(), summary)
            })
            .collect();
        json!({
            "work": self.work.name,
            "figure": self.work.figure,
            "target": self.target(),
            "met": self.is_met(),
            "servers": servers,
            "failed": self.complaints,
        })
    }

    /// The last word on a work, for programs: name, ratio or value, target, verdict.
    pub(crate) fn line(&self) -> String {
        let number = |spread: Option<Spread>| spread.map_or("-".to_owned(), |it| format!("{:.3}", it.median));
        format!(
            "result\t{}\tcoturn={}\trtcctl={}\tratio={}\ttarget={}\t{}",
            self.work.name,
            number(self.values(Kind::Coturn)),
            number(self.values(Kind::Rtcctl)),
            number(self.ratios(Kind::Rtcctl)),
            self.target(),
            self.is_met().map_or("-", |is_met| if is_met { "met" } else { "missed" }),
        )
    }
}
