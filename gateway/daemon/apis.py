"""Which APIs there are: each dialect with the handler that speaks it, in the table of routes."""

from collections.abc import Callable, Sequence

from gateway.config.effective import api_keys
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest
from gateway.dialects.anthropic_messages import AnthropicMessages, CountedMessages
from gateway.dialects.base import Dialect, E, EmbedDialect, P
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_embed import OllamaEmbed, OllamaEmbeddings
from gateway.dialects.ollama_generate import OllamaGenerate
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.tokenizing import Detokenize, Tokenize
from gateway.pool.asking import Asker
from gateway.pool.health import HealthMonitor
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.service import Service
from gateway.web import app
from gateway.web.docs import Docs
from gateway.web.embedding import Embedding
from gateway.web.home import Home
from gateway.web.inference import Inference
from gateway.web.intake import Intake
from gateway.web.management import Management
from gateway.web.models import Models
from gateway.web.ollama import Ollama
from gateway.web.operating import Operating
from gateway.web.ops import Ops
from gateway.web.reload import Reload
from gateway.web.requests import Requests
from gateway.web.route import Route
from gateway.web.status import Status
from gateway.web.tokenizing import InputTokens, TokenHandlers, Tokenizing
from gateway.web.usage import Usage
from gateway.web.vocabulary import Vocabulary


def routes(
    config: Config,
    *,
    service: Service,
    intake: Intake,
    pool: Pool,
    health: HealthMonitor,
    asker: Asker,
    estimate: Callable[[GenerateRequest, Upstream], int],
    management: Management,
    usage: Usage,
    status: Status,
    home: Home,
    reload: Reload,
    ops: Ops,
    clock: Clock,
) -> Sequence[Route]:
    """Every URL there is, described too.

    Args:
        estimate: Tokens of a prompt, for engines that can't count them.
    """
    limits, generation = config.limits, config.generation

    def speaks(dialect: Dialect[P]) -> Inference[P]:
        return Inference(
            dialect=dialect,
            intake=intake,
            service=service,
            clock=clock,
            scheduling=config.scheduling,
        )

    def embeds(dialect: EmbedDialect[E]) -> Embedding[E]:
        return Embedding(dialect=dialect, intake=intake)

    vocabulary = Vocabulary(
        pool=pool,
        asker=asker,
        estimate=estimate,
        strict_params=generation.strict_params,
    )
    docs = Docs(clock=clock)
    table = app.routes(
        chat=speaks(OpenAIChat(limits, generation)),
        completions=speaks(OpenAICompletions(limits, generation)),
        responses=speaks(OpenAIResponses(limits, generation)),
        embeddings=embeds(OpenAIEmbeddings(limits, generation)),
        messages=speaks(AnthropicMessages(limits, generation)),
        ollama_chat=speaks(OllamaChat(limits, generation)),
        ollama_generate=speaks(OllamaGenerate(limits, generation)),
        ollama_embed=embeds(OllamaEmbed(limits, generation)),
        ollama_embeddings=embeds(OllamaEmbeddings(limits, generation)),
        ollama=Ollama(pool=pool, health=health, intake=intake, clock=clock),
        management=management,
        tokens=_tokens(vocabulary, config, intake=intake, clock=clock),
        models=Models(pool=pool, health=health, clock=clock),
        requests=Requests(service=service, clock=clock),
        usage=usage,
        status=status,
        home=home,
        reload=reload,
        operating=Operating(service=service, health=health, intake=intake, clock=clock),
        ops=ops,
        docs=docs,
    )
    docs.describe(table, keyed=bool(api_keys(config)))
    return table


def _tokens(
    vocabulary: Vocabulary, config: Config, *, intake: Intake, clock: Clock
) -> TokenHandlers:
    limits, generation = config.limits, config.generation

    def counting(dialect: Dialect[P], **told: Json) -> InputTokens[P]:
        return InputTokens(
            dialect=dialect, told=told, vocabulary=vocabulary, intake=intake, clock=clock
        )

    return TokenHandlers(
        chat=counting(OpenAIChat(limits, generation), object="response.input_tokens"),
        responses=counting(OpenAIResponses(limits, generation), object="response.input_tokens"),
        messages=counting(CountedMessages(limits, generation)),
        tokenizing=Tokenizing(
            tokenize=Tokenize(limits, generation),
            detokenize=Detokenize(limits, generation),
            vocabulary=vocabulary,
            intake=intake,
            clock=clock,
        ),
    )
