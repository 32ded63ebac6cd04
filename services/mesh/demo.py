"""The demo: real people and real outcomes in, a better head serving, in about a minute.

People of the Columbia speed-dating experiment come in through the public API, and what happened at
the first events. The last events are held back: nobody there has an outcome in the mesh, and what
they really decided is compared with the matches before and after the training.
"""

import asyncio
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.mesh.client import ApiError, Client, Json, open_client
from services.mesh.speed_dating import (
    Meeting,
    Person,
    event_name,
    read_meetings,
    read_people,
    schema,
)

DOMAIN = "dating"
LAST_TRAINING_EVENT = 17
BATCH = 500
POLL_SECONDS = 0.2
SWAP_SECONDS_MAX = 10.0
SHOWN = 5


@dataclass(frozen=True)
class Story:
    """The data, and the one person whose matches are shown."""

    people: dict[str, Person]
    training: list[Meeting]
    held_back: list[Meeting]
    seeker: Person

    def met(self, seeker: str) -> dict[str, bool]:
        """Whom a person of the events held back met, and whether they said yes."""
        return {m.candidate: m.yes for m in self.held_back if m.seeker == seeker}


def read_story() -> Story:
    """Splits the events and chooses the seeker: of those held back, who met the most people."""
    people = {person.user_id: person for person in read_people()}
    meetings = read_meetings()
    held_back = [m for m in meetings if m.wave > LAST_TRAINING_EVENT]
    yes: dict[str, int] = {}
    for meeting in held_back:
        yes[meeting.seeker] = yes.get(meeting.seeker, 0) + meeting.yes
    # About a third of yes: neither everyone nor no one is right.
    met = {s: sum(m.seeker == s for m in held_back) for s in yes}
    seeker = min(yes, key=lambda s: (-met[s], abs(yes[s] / met[s] - 1 / 3), s))
    training = [m for m in meetings if m.wave <= LAST_TRAINING_EVENT]
    return Story(people, training, held_back, people[seeker])


async def run_demo(url: str, key: str, console: Console) -> str:
    """Runs the demo against a mesh and returns the name of its domain."""
    story = read_story()
    async with open_client(url, key) as client:
        domain = await _free_domain(client)
        console.rule(f"[bold]1[/]  People and outcomes come in (domain {domain})")
        await _bring_in(client, domain, story, console)
        console.rule("[bold]2[/]  Matches by the general tier: the encoder alone")
        await _until_matchable(client, domain, story.seeker.user_id)
        before = await _rank_all(client, domain, story)
        await _show_matches(client, domain, story, console)
        console.rule("[bold]3[/]  A run: outcomes become triplets, triplets a head")
        run = await _train(client, domain, console)
        _show_verdict(run, console)
        if run["verdict"]["result"] == "promoted":
            console.rule("[bold]4[/]  The same person, ranked by the tenant's own head")
            await _until_served(client, domain, story.seeker.user_id, run["head"])
            await _show_matches(client, domain, story, console)
            _show_gain(before, await _rank_all(client, domain, story), console)
    return domain


async def _free_domain(client: Client) -> str:
    """A domain that no demo has used: each starts from the general tier."""
    number = 1
    while True:
        domain = DOMAIN if number == 1 else f"{DOMAIN}-{number}"
        try:
            await client.call("GET", "/v1/schema", domain=domain)
        except ApiError as error:
            if error.reason == "DOMAIN_NOT_FOUND":
                return domain
            raise
        number += 1


async def _bring_in(client: Client, domain: str, story: Story, console: Console) -> None:
    await client.call("PUT", "/v1/schema", schema(domain))
    items = [meeting.item() for meeting in story.training]
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    with _progress(console) as progress:
        task = progress.add_task("people", total=len(story.people))
        users = (person.user(domain) for person in story.people.values())
        await client.call_all("POST", "/v1/users", users, lambda: progress.advance(task))
        task = progress.add_task("outcomes", total=len(items))
        for batch in batches:
            body = {"domain": domain, "items": batch}
            answer = await client.call("POST", "/v1/feedback", body)
            progress.advance(task, len(batch))
    console.print(
        f"{len(story.people)} people, {len(items):,} outcomes of events 1 to "
        f"{LAST_TRAINING_EVENT}: {answer['triplets_pending_train']:,} triplets"
    )


async def _until_matchable(client: Client, domain: str, user_id: str) -> None:
    """A person is matchable within a second of coming in."""
    deadline = time.monotonic() + SWAP_SECONDS_MAX
    while True:
        try:
            await client.call("POST", "/v1/match", {"user_id": user_id, "domain": domain})
        except ApiError as error:
            if time.monotonic() > deadline or error.status not in {404, 503}:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def _match(client: Client, domain: str, seeker: Person) -> Json:
    """Everyone whom a person may have met at their event, ranked."""
    body = {
        "user_id": seeker.user_id,
        "domain": domain,
        "limit": 100,
        "filters": {"event": event_name(seeker.wave), "gender": {"not": seeker.gender}},
    }
    return await client.call("POST", "/v1/match", body)


async def _show_matches(client: Client, domain: str, story: Story, console: Console) -> None:
    seeker, decided = story.seeker, story.met(story.seeker.user_id)
    answer = await _match(client, domain, seeker)
    model = list(answer["models_used"].values())[-1]
    table = Table("", "match", "age", "score", "really said", "about", box=None, pad_edge=False)
    for place, match in enumerate(answer["matches"][:SHOWN], 1):
        person = story.people[match["user_id"]]
        said = {True: "[green]yes[/]", False: "no", None: "-"}[decided.get(person.user_id)]
        about = person.fields["about"][:44] + "…"
        age = f"{person.fields.get('age', 0):.0f}"
        score = f"{match['score']:.3f}"
        table.add_row(str(place), person.user_id, age, score, said, about)
    said_yes = sum(decided.values())
    console.print(
        f"{seeker.user_id} met {len(decided)} people and said yes to {said_yes}. "
        f"Tier [bold]{model['tier']}[/], {model['version']}:"
    )
    console.print(table)


async def _train(client: Client, domain: str, console: Console) -> Json:
    wish = {"domain": domain, "force": True}
    try:
        answer = await client.call("POST", "/v1/train", wish)
    except ApiError as error:
        if error.reason != "RUN_ACTIVE":
            raise
        started_itself = error.metadata["run_id"]
        console.print(
            f"{started_itself} started by itself when the triplet budget was reached. More "
            "outcomes came in since: it is cancelled in favour of a run over all of them."
        )
        await client.call("POST", f"/v1/runs/{started_itself}:cancel", {})
        answer = await client.call("POST", "/v1/train", wish)
    console.print(
        f"{answer['run_id']}: {answer['triplets_used']:,} triplets, "
        f"expected to take {answer['estimated_completion_minutes']} min or less"
    )
    started = time.monotonic()
    with _progress(console) as progress:
        task = progress.add_task("queued", total=None)
        while True:
            run = await client.call("GET", f"/v1/runs/{answer['run_id']}")
            steps = run["progress"]
            progress.update(
                task,
                description=run["status"],
                completed=steps["steps_done_count"],
                total=steps["steps_count"] or None,
            )
            if run["status"] in {"succeeded", "stopped", "failed", "cancelled"}:
                break
            await asyncio.sleep(POLL_SECONDS)
    if run["status"] != "succeeded":
        raise ApiError(500, {"message": f"the run has {run['status']}: {run.get('failure')}"})
    console.print(f"done after {time.monotonic() - started:.1f} s")
    return run


def _show_verdict(run: Json, console: Console) -> None:
    verdict = run["verdict"]
    table = Table("held-out events", "NDCG@10 (95 %)", "AUC (95 %)", box=None, pad_edge=False)
    for name, key in (("before", "incumbent_quality"), ("after", "challenger_quality")):
        quality = verdict[key]
        intervals = [_interval(quality[f"{metric}_interval"]) for metric in ("ndcg_at_10", "auc")]
        table.add_row(name, *intervals)
    gains = [_interval(verdict[f"{metric}_gain"], sign="+") for metric in ("ndcg_at_10", "auc")]
    table.add_row("gain (90 %, paired)", *gains)
    console.print(
        f"The gate compares {run['head']} with {verdict['incumbent']}: {verdict['seekers_count']} "
        f"seekers, {verdict['outcomes_count']} outcomes of the last events, by twins of both that "
        "have not learned them."
    )
    console.print(table)
    style = "green" if verdict["result"] == "promoted" else "yellow"
    console.print(f"Verdict: [bold {style}]{verdict['result']}[/]")
    for reason in verdict["reasons"]:
        console.print(f"  {reason}")


async def _until_served(client: Client, domain: str, user_id: str, head: str) -> None:
    deadline = time.monotonic() + SWAP_SECONDS_MAX
    body = {"user_id": user_id, "domain": domain, "limit": 1}
    while time.monotonic() < deadline:
        answer = await client.call("POST", "/v1/match", body)
        if any(model["version"] == head for model in answer["models_used"].values()):
            return
        await asyncio.sleep(POLL_SECONDS / 4)
    raise ApiError(504, {"message": f"{head} is promoted but not served"})


async def _rank_all(client: Client, domain: str, story: Story) -> float:
    """How often, at the events held back, a yes is ranked above a no of the same person."""
    seekers = {meeting.seeker for meeting in story.held_back}
    turn = asyncio.Semaphore(8)

    async def one(user_id: str) -> tuple[int, int]:
        decided = story.met(user_id)
        async with turn:
            answer = await _match(client, domain, story.people[user_id])
        order = [decided[m["user_id"]] for m in answer["matches"] if m["user_id"] in decided]
        right = sum(later is False for i, yes in enumerate(order) if yes for later in order[i:])
        return right, sum(order) * (len(order) - sum(order))

    counted = await asyncio.gather(*(one(user_id) for user_id in sorted(seekers)))
    return sum(right for right, _ in counted) / sum(pairs for _, pairs in counted)


def _show_gain(before: float, after: float, console: Console) -> None:
    console.print(
        f"Events {LAST_TRAINING_EVENT + 1} to 21, of which the mesh has no outcome: a yes stands "
        f"above a no of the same person in [bold]{before:.1%}[/] of the pairs before, "
        f"[bold]{after:.1%}[/] after."
    )


def _interval(interval: Json, sign: str = "") -> str:
    low, mid, high = (format(interval[key], f"{sign}.3f") for key in ("low", "mid", "high"))
    return f"{mid}  [{low}, {high}]"


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)
