"""Asks a language model behind an endpoint that speaks the OpenAI chat protocol."""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

CALLS_MAX = 8
"""At once; more wait, and their deadline runs."""
ANSWER_BYTES_MAX = 1024 * 1024


class ChatFailedError(Exception):
    """The model gave no answer that can be used; the text says why, as the end of a sentence."""


class Chat:
    """Calls POST <url>/chat/completions."""

    def __init__(self, url: str, model: str, key: str, seconds_max: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the model's URL must start with http:// or https://")
        self.model = model
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._key = key
        self._seconds_max = seconds_max
        self._executor = ThreadPoolExecutor(CALLS_MAX, "chat")

    async def ask(self, task: str, data: object) -> dict[str, object]:
        """Gives the model a task and data as JSON, and returns the JSON object that it answers.

        Raises:
            ChatFailedError: it is late, away, or answers something else.
        """
        content = json.dumps(data, ensure_ascii=False)
        messages = [{"role": "system", "content": task}, {"role": "user", "content": content}]
        request = {"model": self.model, "temperature": 0, "messages": messages}
        body = json.dumps(request).encode()
        asked = asyncio.get_running_loop().run_in_executor(self._executor, self._post, body)
        try:
            async with asyncio.timeout(self._seconds_max):
                answer = await asked
        except TimeoutError:
            raise ChatFailedError(f"did not answer within {self._seconds_max:g} s") from None
        return _read(answer)

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310  # checked above
        silence = 2 * self._seconds_max  # frees the thread; the deadline is over by then
        try:
            with urllib.request.urlopen(request, timeout=silence) as response:  # noqa: S310
                content: bytes = response.read(ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as error:
            error.close()
            raise ChatFailedError(f"answered with the status {error.code}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ChatFailedError("cannot be reached") from error
        return content


def _read(content: bytes) -> dict[str, object]:
    """The object in a chat's answer; models like to wrap their JSON in words."""
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ChatFailedError("gave nothing that can be read") from None
    if not isinstance(found, dict):
        raise ChatFailedError("gave nothing that can be read")
    return found
