//! What came out: tables for people, one file of lines for the chart, and which bounds hold.

use crate::contestants::Samples;
use std::fmt::Write as _;
use std::io::Write as _;
use std::{fs, io};

/// The least, the middle and the greatest.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub struct Report {
    /// Whether the rounds are too few and too short to judge by.
    quick: bool,
    /// `workload, case, contestant, unit, min, median, max, ratio min, median, max`, separated by tabs.
    lines: String,
    bounds: Vec<(String, bool)>,
    broken: bool,
}

impl Report {
    pub fn new(quick: bool) -> Report {
        Report { quick, lines: String::new(), bounds: Vec::new(), broken: false }
    }

    pub fn title(&self, title: &str) {
        println!("\n== {title}");
    }

    /// Figures that scatter, with their ratio to `raw`.
    pub fn scattered(&mut self, workload: &str, case: &str, unit: &str, samples: &[Samples]) {
        println!("\n{case}, {unit}");
        println!(
            "  {:18}{:>10}{:>10}{:>10}    to raw in the same mode: {:>6}{:>8}{:>8}",
            "", "min", "median", "max", "min", "median", "max"
        );
        for sample in samples {
            let (v, r) = (spread(&sample.values), spread(&sample.ratios));
            println!(
                "  {:18}{:>10}{:>10}{:>10}{:>32.3}{:>8.3}{:>8.3}",
                sample.contestant,
                number(v[0]),
                number(v[1]),
                number(v[2]),
                r[0],
                r[1],
                r[2]
            );
            let _ = writeln!(
                self.lines,
                "{workload}\t{case}\t{}\t{unit}\t{}\t{}\t{}\t{:.3}\t{:.3}\t{:.3}",
                sample.contestant,
                number(v[0]),
                number(v[1]),
                number(v[2]),
                r[0],
                r[1],
                r[2]
            );
        }
    }

    /// Figures that are exact: a row for each contestant, a column for each case.
    pub fn exact(
        &mut self,
        workload: &str,
        unit: &str,
        cases: &[String],
        rows: &[(String, Vec<Option<f64>>)],
    ) {
        print!("\n  {unit:34}");
        let width = |case: &String| case.chars().count().max(8) + 2;
        for case in cases {
            print!("{case:>width$}", width = width(case));
        }
        println!();
        for (contestant, values) in rows {
            print!("  {contestant:34}");
            for (case, value) in cases.iter().zip(values) {
                let text = value.map_or("-".to_string(), number);
                print!("{text:>width$}", width = width(case));
                if value.is_some() {
                    let _ = writeln!(
                        self.lines,
                        "{workload}\t{case}\t{contestant}\t{unit}\t{text}\t{text}\t{text}\t\t\t"
                    );
                }
            }
            println!();
        }
    }

    /// A bound on something that scatters: said, but it does not fail the run.
    pub fn bound(&mut self, what: String, holds: bool) {
        if !self.quick {
            self.bounds.push((what, holds));
        }
    }

    /// A bound on something that does not depend on the machine or its load.
    pub fn exact_bound(&mut self, what: String, holds: bool) {
        self.broken |= !holds;
        self.bounds.push((what, holds));
    }

    /// The median ratio of each of minimio's modes is at most `limit`.
    pub fn ratio_bound(&mut self, case: &str, limit: f64, samples: &[Samples]) {
        for sample in samples {
            if sample.contestant.starts_with("minimio") {
                let [_, median, _] = spread(&sample.ratios);
                let what = format!("{case}, {}: {median:.3} of raw, at most {limit}", sample.contestant);
                self.bound(what, median <= limit);
            }
        }
    }

    /// Prints which bounds hold and writes the lines down. Whether all that is exact holds.
    pub fn end(self, file: Option<&str>) -> io::Result<bool> {
        println!("\n== Bounds\n");
        for (what, holds) in &self.bounds {
            println!("  {}  {what}", if *holds { "holds " } else { "MISSED" });
        }
        if let Some(file) = file {
            let mut out = fs::File::create(file)?;
            writeln!(out, "# {}", crate::sys::machine())?;
            writeln!(
                out,
                "workload\tcase\tcontestant\tunit\tmin\tmedian\tmax\tratio min\tratio median\tratio max"
            )?;
            out.write_all(self.lines.as_bytes())?;
            println!("\nWritten to {file}");
        }
        Ok(!self.broken)
    }
}

pub fn median(values: &[f64]) -> f64 {
    spread(values)[1]
}
