"""What a model reads: text or a conversation to token ids, refused before it is too much work.

Called by the vLLM backend. The tokenizer is a real model's; nothing here needs vLLM.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from tritonllm import errors

# A thread switch costs more than the work on anything shorter.
_INLINE_CHARACTERS = 2000


class PromptTokenizer:
    """Makes prompts for one model.

    Args:
        tokenizer: vLLM's, see `vllm.tokenizers.TokenizerLike`.
        context: maximum number of tokens of prompt and answer together.
    """

    def __init__(self, tokenizer: Any, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        # A longer text has too many tokens, whatever it says, and need not be tokenised to know.
        self._longest = context * tokenizer.max_chars_per_token
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    async def tokens(self, text: str | None, messages: list[dict[str, str]] | None) -> list[int]:
        """The token ids of a prompt, with the special tokens that the model expects.

        A long one is worked on in a thread, so that everybody else's tokens keep flowing.

        Args:
            text: the prompt, or None.
            messages: the conversation that the model's chat template makes into a prompt, or None.

        Raises:
            RequestError: `invalid_argument`: too long, empty, or not what the template takes.
        """
        field = "messages" if text is None else "text_input"
        parts = [turn["content"] for turn in messages or []] if text is None else [text]
        size = sum(len(part) for part in parts)
        if size > self._longest:
            raise self._too_long(field, f"{size} characters")
        if size <= _INLINE_CHARACTERS:
            ids = self._tokenize(text, messages)
        else:
            loop = asyncio.get_running_loop()
            ids = await loop.run_in_executor(self._pool, self._tokenize, text, messages)
        if len(ids) >= self._context:
            raise self._too_long(field, f"{len(ids)} tokens")
        if not ids:
            raise errors.RequestError("invalid_argument", field, "is empty for this model; send a prompt")
        return ids

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tokenize(self, text: str | None, messages: list[dict[str, str]] | None) -> list[int]:
        if text is not None:
            return self._tokenizer.encode(text)
        try:
            prompt = self._conversation(messages or [])
        except errors.RequestError:
            raise
        except Exception as error:
            # Templates are programs that come with a model: `raise_exception` is how they say what they refuse,
            # and any other error in one is still about these messages.
            raise errors.RequestError(
                "invalid_argument", "messages", f"this model's chat template refuses them: {error}"
            ) from error
        # The template has written the special tokens itself.
        return self._tokenizer.encode(prompt, add_special_tokens=False) if isinstance(prompt, str) else prompt

    def _conversation(self, messages: list[dict[str, str]]) -> str | list[int]:
        if not hasattr(self._tokenizer, "chat_template"):
            # Mistral's own tokenizer: its template is code, and its text form is not meant to be read again.
            return self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        if self._tokenizer.chat_template is None:
            raise errors.RequestError(
                "invalid_argument",
                "messages",
                "this model has no chat template; send the whole prompt as `text_input`, or serve an instruct model",
            )
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _too_long(self, field: str, size: str) -> errors.RequestError:
        return errors.RequestError(
            "invalid_argument",
            field,
            f"{size}, but the model's context is {self._context}; shorten the prompt",
        )
