"""Schemas to begin with, one a kind of platform: to be put as they are, or changed before."""

from dataclasses import dataclass

from services.triplets.core.errors import TemplateNotFoundError
from services.triplets.core.schema import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaTemplate:
    """Fields under a name, which is the domain's unless the tenant chooses another."""

    name: str
    description: str
    fields: tuple[Field, ...]
    reciprocal: bool
    """Whether both must say yes."""


def find_template(name: str) -> SchemaTemplate:
    """Returns a template.

    Raises:
        TemplateNotFoundError: there is none of that name.
    """
    for template in TEMPLATES:
        if template.name == name:
            return template
    raise TemplateNotFoundError(name, tuple(template.name for template in TEMPLATES))


def _hard(name: str, kind: str, description: str) -> Field:
    return Field(name=name, kind="hard", type=kind, description=description)


def _enum(name: str, description: str, **members: str) -> Field:
    return Field(
        name=name,
        kind="hard",
        type="enum",
        members=tuple(members),
        description=description,
        member_descriptions=tuple(sorted(members.items())),
    )


def _soft(name: str, description: str, priority: str = "medium") -> Field:
    return Field(name=name, kind="soft", type="string", priority=priority, description=description)


_DATING = SchemaTemplate(
    name="dating",
    reciprocal=True,
    description="People who look for a partner.",
    fields=(
        _hard("age", "integer", "Age in years."),
        _enum(
            "gender",
            "The person's gender.",
            woman="Is a woman.",
            man="Is a man.",
            nonbinary="Is neither a man nor a woman.",
        ),
        _hard("seeks_genders", "list", "Genders that the person would like to meet."),
        _hard("location", "string", 'Where the person lives, such as "New York, NY".'),
        _hard("place", "geo", "Where the person lives, on the globe."),
        _enum(
            "relationship_goal",
            "What the person looks for.",
            casual="Wants something casual without commitment.",
            long_term="Wants a serious, long-term relationship.",
            marriage="Wants to marry and found a family.",
            friends="Wants friends, no romance.",
        ),
        _hard("smokes", "boolean", "Whether the person smokes."),
        _hard("has_children", "boolean", "Whether the person has children."),
        _hard("languages", "list", "Languages that the person speaks."),
        _soft("values_text", "What matters to the person in life.", "high"),
        _soft("interests_text", "What the person likes to do."),
        _soft("partner_text", "Whom the person would like to meet."),
    ),
)
_HIRING = SchemaTemplate(
    name="hiring",
    reciprocal=True,
    description="Candidates and jobs, both as people of one domain.",
    fields=(
        _enum("side", "Which of the two it is.", candidate="Looks for a job.", job="Is a job."),
        _hard("role", "string", 'The job\'s title, such as "data engineer".'),
        _enum(
            "seniority",
            "How experienced.",
            junior="Starts out, up to two years.",
            middle="Works alone, two to five years.",
            senior="Leads the work of others, more than five years.",
            executive="Leads a part of the company.",
        ),
        _hard("years_experience", "number", "Years of work in the field."),
        _hard("salary_min_usd", "integer", "Least salary a year, in US dollars."),
        _hard("salary_max_usd", "integer", "Highest salary a year, in US dollars."),
        _enum(
            "work_mode",
            "Where the work is done.",
            onsite="In the office.",
            hybrid="Some days in the office, some at home.",
            remote="From anywhere.",
        ),
        _hard("location", "string", 'City of the job or the candidate, such as "Berlin, Germany".'),
        _hard("place", "geo", "The same on the globe."),
        _hard("skills", "list", "Skills had or asked for."),
        _hard("available_from", "timestamp", "When work can begin."),
        _soft("motivation_text", "Why this work, or whom the team looks for.", "high"),
        _soft("experience_text", "What was done so far, or what there is to do."),
    ),
)
_FOUNDER_INVESTOR = SchemaTemplate(
    name="founder-investor",
    reciprocal=True,
    description="Founders who raise money and investors who look for companies.",
    fields=(
        _enum(
            "side",
            "Which of the two it is.",
            founder="Raises money for a company.",
            investor="Invests in companies.",
        ),
        _enum(
            "stage",
            "How far the company is.",
            idea="Has an idea, no product.",
            pre_seed="Has a prototype.",
            seed="Has first customers.",
            series_a="Has a product that sells and grows.",
            growth="Expands a proven business.",
        ),
        _hard("sectors", "list", 'Fields of business, such as "climate" or "fintech".'),
        _hard("amount_min_usd", "integer", "Least amount, in US dollars."),
        _hard("amount_max_usd", "integer", "Highest amount, in US dollars."),
        _hard("revenue_usd", "number", "Revenue a year, in US dollars."),
        _hard("location", "string", "City of the company or the investor."),
        _hard("place", "geo", "The same on the globe."),
        _hard("leads_rounds", "boolean", "Whether the investor leads rounds."),
        _soft("thesis_text", "What the company stands for, or what is invested in.", "high"),
        _soft("team_text", "Who is behind it."),
        _soft("traction_text", "What has been reached so far."),
    ),
)
_MARKETPLACE = SchemaTemplate(
    name="marketplace",
    reciprocal=False,
    description="Buyers and offers, both as people of one domain.",
    fields=(
        _enum("side", "Which of the two it is.", buyer="Looks to buy.", offer="Is on offer."),
        _hard("category", "string", 'Kind of goods or service, such as "bicycle".'),
        _hard("price_usd", "number", "Price asked, or the most that would be paid, in US dollars."),
        _enum(
            "condition",
            "State of the goods.",
            new="Unused.",
            good="Used, works well.",
            fair="Used, with faults that can be seen.",
        ),
        _hard("tags", "list", "Properties to search for."),
        _hard("location", "string", "City."),
        _hard("place", "geo", "The same on the globe."),
        _hard("ships", "boolean", "Whether it is sent, or may be."),
        _hard("available_until", "timestamp", "When the offer ends."),
        _soft("description_text", "What is offered or looked for.", "high"),
        _soft("seller_text", "Who sells or buys."),
    ),
)
_AGENT_TO_AGENT = SchemaTemplate(
    name="agent-to-agent",
    reciprocal=False,
    description="Software agents that look for others to work with.",
    fields=(
        _hard("capabilities", "list", 'What the agent can do, such as "translate".'),
        _hard("protocols", "list", "Protocols that it speaks."),
        _hard("languages", "list", "Languages that it works in."),
        _hard("price_usd_per_task", "number", "Price of a task, in US dollars."),
        _hard("latency_seconds", "number", "How long a task takes, in seconds."),
        _enum(
            "trust",
            "Who vouches for the agent.",
            unverified="Nobody.",
            verified="Its owner is known.",
            audited="It was examined by others.",
        ),
        _hard("region", "string", "Where it runs."),
        _hard("handles_personal_data", "boolean", "Whether it may be given personal data."),
        Field(
            name="success_rate",
            kind="derived",
            type="number",
            description="Share of its tasks that ended well, from 0 to 1.",
        ),
        _soft("purpose_text", "What the agent is for, or what it looks for.", "high"),
        _soft("limits_text", "What it does not do."),
    ),
)
_PRODUCT_RECOMMENDATION = SchemaTemplate(
    name="product-recommendation",
    reciprocal=False,
    description="Shoppers and products, both as people of one domain.",
    fields=(
        _enum("side", "Which of the two it is.", shopper="Shops.", product="Is for sale."),
        _hard("category", "string", "Kind of product."),
        _hard("brand", "string", "Brand."),
        _hard("price_usd", "number", "Price, in US dollars."),
        _hard("tags", "list", "Properties to filter by."),
        _hard("in_stock", "boolean", "Whether it can be sent today."),
        _hard("released_at", "timestamp", "When it came out."),
        Field(
            name="rating",
            kind="derived",
            type="number",
            description="Mean rating of the product, from 1 to 5.",
        ),
        _soft("description_text", "What the product is, or what the shopper likes.", "high"),
        _soft("reviews_text", "What is said of it."),
    ),
)
TEMPLATES = (
    _DATING,
    _HIRING,
    _FOUNDER_INVESTOR,
    _MARKETPLACE,
    _AGENT_TO_AGENT,
    _PRODUCT_RECOMMENDATION,
)
