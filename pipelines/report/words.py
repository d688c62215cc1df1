"""What the report tells a newcomer, section by section: what you look at, and what would be bad. Names in `backticks` are set as code."""

from __future__ import annotations

from pipelines.report.figure import Section

SCORES = Section(
    id="learning",
    link="Scores",
    title="Did the policy get better?",
    look="Each point is the policy after a round, asked the same held-out problems that no round trains on; round 0 is the policy before any "
    "training. pass@1 is the chance that one answer is right, pass@k that at least one of k is, majority@n that the most frequent answer is, "
    "cot-pass@k like pass@k where the reasoning must be right, too. The bars are 95 % intervals over problems.",
    bad="pass@1 that stays flat or falls. pass@1 that rises while the largest pass@k falls means that answers became narrower, not better.",
)
DOMAINS = Section(
    id="domains",
    link="Domains",
    title="Where did it get better?",
    look="Held-out pass@1 per family or domain, before training and after the last evaluated round, each with its 95 % interval; beside it the "
    "gain on the very same problems. That paired gain is the surer figure: how much the problems differ from one another cancels out.",
    bad="A domain whose whole gain interval lies below zero: training on the others has cost it something. (Of twenty such intervals one is "
    "expected to miss by chance.)",
)
STEPS = Section(
    id="training",
    link="Training",
    title="How did training go?",
    look="One point per optimizer step, counted over all rounds; the bold line is a moving mean. Each round trains on newly chosen problems near "
    "the edge of what the policy can do, so reward may start lower than the round before ended.",
    bad="Reward that falls while a round lasts, entropy that collapses towards zero, spikes of the gradient norm, answers that grow without end.",
)
STREAMS = Section(
    id="streams",
    link="Streams",
    title="What did strategies add to the steps?",
    look="Beside the recipe's own problems (stream main) strategies ask for groups of their own inside a step, each a stream: problems that the "
    "policy wrote, answers to them, rewrites. What became of every problem written is told rule by rule further down; the table `decisions` "
    "has the reason of each, and `synth show` one problem's whole story.",
    bad="A stream whose rewards are hardly ever mixed: it costs tokens and teaches nothing.",
)
DIFFICULTY = Section(
    id="difficulty",
    link="Difficulty",
    title="How hard are the problems?",
    look="Before each round the policy answers a sample of training problems several times; a bar says what share of them got that many right "
    "answers. Coloured bars lie in the recipe's difficulty band: sometimes solved, sometimes not, worth training on.",
    bad="Nearly everything at the left end (too hard, no signal) or at the right end (too easy, nothing left to learn). "
    "Mass that moves to the right from round to round is the policy learning.",
)
CANDIDATES = Section(
    id="candidates",
    link="Candidates",
    title="What was kept, what was refused, and why?",
    look="Every problem considered in a round, by where it comes from: a strategy that wrote it, or the pool it was probed from. It is either "
    "trained on or refused by a rule; it is counted once, under the first rule that refused it.",
    bad="A strategy most of whose candidates fall to one rule writes the wrong thing: `duplicate` means too little variety, `band` that the "
    "difficulty is off, `verifier` that its own answers cannot be trusted. Any `heldout` is a leak that was caught.",
)
VERDICTS = Section(
    id="verdicts",
    link="Verdicts",
    title="What did the verifiers say?",
    look="Programs judged every answer: pass, fail, or unknown where the verifier could not decide. Unknown is never taken for a pass; the reasons "
    "are below.",
    bad="More than a few per cent unknown: the numbers above then rest on a part of the answers only, and the reasons say what to mend.",
)
SAMPLES = Section(
    id="samples",
    link="Examples",
    title="Twenty problems to look at",
    look="Numbers can mislead, examples rarely do: held-out problems whose answers changed most, problems never solved, candidates that were "
    "refused, answers that no verifier could judge. Open one to read the prompt, the reference, and answers with their verdicts.",
    bad="A right answer judged `fail`, a wrong one judged `pass`, a reference that is itself wrong, an answer that is right by nonsense.",
)
COST = Section(
    id="cost",
    link="Cost",
    title="What did it cost?",
    look="Wall-clock time per stage, the tokens that were read, written and trained on, and the requests sent to the engine. "
    "Repeats are answers to a request that was answered before; they are ignored, never counted twice.",
    bad="A stage that takes longer every round, requests that had to be sent again, or requests that failed.",
)
