"""The modules of a receipt's plan are asked, or their stages end, whatever is enabled by then."""

from uuid import UUID

from kgl_contracts.ingest import DocumentParsed, PlannedModule
from kgl_graph.testing import GraphKit
from kgl_graph.use_cases.answer_request import sweep
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import hear_module, told_stages

TAGGER = PlannedModule(name="tagger", capabilities=("extract", "publish"), mode="optional", deadline_seconds=60)
READER = PlannedModule(name="reader", capabilities=("summarise",), mode="required", deadline_seconds=600)
STAGES_OF_TAGGER = ("graph.extract.tagger", "graph.link.tagger")


async def parsed(graph: GraphKit, *modules: PlannedModule, document: UUID | None = None) -> DocumentParsed:
    event = await graph.parsed(document or uuid7(), 1, ["Rotterdam is a harbour."])
    return event.model_copy(update={"modules": modules})


async def asked(graph: GraphKit) -> list[tuple[str, str, str]]:
    rows = await graph.rows("select module, capability, mode from ai_request order by module, capability")
    return [(row["module"], row["capability"], row["mode"]) for row in rows]


async def test_a_module_that_was_disabled_since_the_plan_is_not_asked_and_its_stages_are_skipped(
    graph: GraphKit,
) -> None:
    operation = uuid7()
    await hear_module(graph.database, graph.workspace, "tagger", "extract", deleted=True)
    await graph.hear(await parsed(graph, TAGGER, READER), operation)
    assert await asked(graph) == [("reader", "summarise", "required")]
    told = await told_stages(graph.database, operation)
    assert told == dict.fromkeys(STAGES_OF_TAGGER, "skipped")


async def test_a_module_that_serves_less_than_planned_is_asked_for_the_rest(graph: GraphKit) -> None:
    operation = uuid7()
    await hear_module(graph.database, graph.workspace, "tagger", "summarise")
    both = TAGGER.model_copy(update={"capabilities": ("extract", "summarise")})
    await graph.hear(await parsed(graph, both), operation)
    assert await asked(graph) == [("tagger", "summarise", "optional")]
    assert await told_stages(graph.database, operation) == dict.fromkeys(STAGES_OF_TAGGER, "skipped")


async def test_the_plan_decides_who_is_asked_and_how_not_what_graph_heard_of_modules(graph: GraphKit) -> None:
    await hear_module(graph.database, graph.workspace, "newcomer", "extract", "summarise")
    await hear_module(graph.database, graph.workspace, "reader", "extract", mode="optional", deleted=True)
    await graph.hear(await parsed(graph, TAGGER, READER))
    assert await asked(graph) == [("reader", "summarise", "required"), ("tagger", "extract", "optional")]


async def test_where_no_plan_was_kept_the_modules_are_asked_that_are_enabled_now(graph: GraphKit) -> None:
    await hear_module(graph.database, graph.workspace, "newcomer", "extract")
    await graph.hear(await graph.parsed(uuid7(), 1, ["Rotterdam is a harbour."]))
    assert await asked(graph) == [("newcomer", "extract", "required"), ("reader", "summarise", "required")]


async def test_all_planned_stages_of_a_version_that_is_not_current_are_superseded(graph: GraphKit) -> None:
    document, operation = uuid7(), uuid7()
    await hear_module(graph.database, graph.workspace, "tagger", "extract", deleted=True)
    await graph.hear(await graph.parsed(document, 2, ["Newer."]))
    await graph.hear(await parsed(graph, TAGGER, document=document), operation)
    told = await told_stages(graph.database, operation)
    assert told == dict.fromkeys(("graph.index", *STAGES_OF_TAGGER), "superseded")


async def test_an_optional_request_past_its_deadline_skips_the_following_stage_too(graph: GraphKit) -> None:
    operation = uuid7()
    await graph.hear(await parsed(graph, TAGGER), operation)
    await hear_module(graph.database, graph.workspace, "tagger", "extract", deleted=True)
    await graph.rows("update ai_request set deadline_at = now() - interval '1 second' returning id")
    await graph.database.run(graph.workspace, sweep, None)
    told = await told_stages(graph.database, operation)
    assert {stage: told[stage] for stage in STAGES_OF_TAGGER} == dict.fromkeys(STAGES_OF_TAGGER, "skipped")
