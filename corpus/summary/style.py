"""The report's style: one column that fits a phone, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark; --back: #fbfaf7; --card: #ffffff; --ink: #1d2129; --dim: #687080; --line: #e2e0d9;
  --accent: #2f6f8f; --new: #d98032; --gone: #fbdcd6; --come: #d5efd9; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --card: #1c2027; --ink: #e4e6ea; --dim: #98a0ae;
  --line: #313742; --accent: #6db3d3; --new: #e79c58; --gone: #5b2b28; --come: #1f4a30; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; font-weight: 600; }
p { margin: .2rem 0 .8rem; max-width: 46rem; } .dim, small { color: var(--dim); } code { font-size: .9em; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1.2rem 0; }
.cards > div, .panel { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.cards b { display: block; font-size: 1.4rem; white-space: nowrap; line-height: 1.2; font-weight: 650; } .cards span { color: var(--dim); font-size: .85rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: start; font-weight: 600; color: var(--dim); font-size: .8rem; } td, th { padding: .28rem .6rem .28rem 0; vertical-align: top; }
tbody tr { border-top: 1px solid var(--line); } .n { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:first-child { overflow-wrap: anywhere; min-width: 7.5rem; } td:has(.track) { width: 40%; }
.track { display: flex; height: .75rem; margin-top: .4rem; min-width: 3.5rem; border-radius: .2rem; overflow: hidden; background: var(--line); }
.track i { background: var(--accent); } .track i.new { background: var(--new); }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; background: var(--accent); margin-inline: .8rem .3rem; }
.key.new { background: var(--new); }
svg { display: block; width: 100%; height: auto; font: 10px system-ui, sans-serif; } svg text { fill: var(--dim); }
svg .bar { fill: var(--accent); } svg .hover { fill: transparent; } svg g:hover > .bar { fill: var(--new); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--dim); }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; } svg .guide { fill: none; stroke: var(--dim); stroke-dasharray: 3 4; }
details { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .5rem .9rem; margin: .5rem 0; }
summary { cursor: pointer; } details[open] > summary { margin-bottom: .5rem; } summary .n { float: inline-end; }
.sample { border-top: 1px solid var(--line); margin-top: .6rem; padding-top: .5rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; font-size: .9rem; margin: .3rem 0;
  max-height: 22rem; overflow-y: auto; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: .8rem; }
del, ins { text-decoration: none; border-radius: .2rem; } del { background: var(--gone); } ins { background: var(--come); }
bdi { unicode-bidi: isolate; } .words bdi { display: inline-block; max-width: 100%; margin-inline-end: .6rem; overflow-wrap: anywhere; }
.pictures + details, .pictures { margin-top: .8rem; }
@media (max-width: 30rem) { .panel table { font-size: .8rem; } .panel th { font-size: .7rem; } .panel { padding: .6rem .7rem; }
  .panel td, .panel th { padding-inline-end: .35rem; } .panel td:first-child { min-width: 4.5rem; } .track { min-width: 1.8rem; } }
footer { margin-top: 3rem; color: var(--dim); font-size: .85rem; border-top: 1px solid var(--line); padding-top: .8rem; }
"""
