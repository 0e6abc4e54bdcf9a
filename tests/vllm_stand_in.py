"""A server that speaks what vLLM documents of its completions API with prompts of embeddings, on one CPU thread.

It holds a plain Hugging Face folder, as ``vllm serve FOLDER`` does, and knows nothing of this package. Defaults come
from the folder's ``generation_config``, as there. Fields that are not documented are refused, so that a wrong name is
seen.
"""

import base64
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIELDS = {
    "model", "prompt_embeds", "stream", "return_token_ids", "max_tokens", "stop_token_ids", "temperature",
    "repetition_penalty", "presence_penalty", "frequency_penalty", "logprobs", "return_tokens_as_token_ids",
}  # fmt: skip


class StandIn:
    """The server's state.

    Attributes:
        enabled: whether it was started with ``--enable-prompt-embeds``. key: that it wants.
        requests: bodies of completions, in order. given_up: how many clients left before the end.
        meet: requests that must be under way at once before any is answered.
        break_after: ends a stream without its end after so many events. redirect: where it sends everyone.
    """

    def __init__(self, folder, *, name="stand-in"):
        import torch
        from transformers import AutoModelForCausalLM

        self.torch = torch
        self.lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.name, self.enabled, self.key = name, True, ""
        self.requests, self.given_up = [], 0
        self.meet, self.break_after, self.redirect, self.garbage = None, None, "", b""
        self.compute = threading.Lock()
        self.url = ""

    def check(self, body):
        """What vLLM would say of a wrong request, or None."""
        if unknown := body.keys() - FIELDS:
            return 400, f"unknown fields {sorted(unknown)}"
        if body["model"] != self.name:
            return 404, f"The model `{body['model']}` does not exist."
        if not self.enabled:
            return 400, "You must set `--enable-prompt-embeds` to input `prompt_embeds`."
        data = io.BytesIO(base64.b64decode(body["prompt_embeds"], validate=True))
        embeds = self.torch.load(data, weights_only=True)
        hidden = self.lm.config.hidden_size
        if embeds.dim() != 2 or embeds.shape[1] != hidden:
            return 400, (
                f"`prompt_embeds` hidden_size {embeds.shape[1]} does not match the model's hidden_size {hidden}."
            )
        return embeds

    def tokens(self, embeds, body):
        """(token, log-probabilities (V,)) one after the other, with the end token, as vLLM gives them."""
        torch, lm = self.torch, self.lm
        default = lm.generation_config
        penalty = body.get("repetition_penalty", default.repetition_penalty or 1.0)
        temperature = body.get("temperature", default.temperature or 1.0)
        ends = {*body.get("stop_token_ids", ()), default.eos_token_id}
        said, past = [], None
        for _ in range(body.get("max_tokens", 16)):
            with self.compute, torch.no_grad():
                inputs = lm.get_input_embeddings()(torch.tensor(said[-1:])) if said else embeds
                made = lm(inputs_embeds=inputs[None], past_key_values=past, use_cache=True)
            logits, past = made.logits[0, -1].float(), made.past_key_values
            log_p = logits.log_softmax(-1)
            for token in set(said):
                logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
            token = int(logits.argmax()) if temperature == 0 else int(torch.multinomial(logits.softmax(-1), 1))
            said.append(token)
            yield token, log_p
            if token in ends:
                return


@contextmanager
def serving(folder, **changes):
    """A stand-in at work: its ``url`` is filled in."""
    state = StandIn(folder, **changes)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self._let_in():
                self._json(200, {"object": "list", "data": [{"id": state.name, "object": "model", "root": "/x"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self._let_in():
                return
            state.requests.append(body)
            checked = state.check(body)
            if isinstance(checked, tuple):
                status, message = checked
                self._json(status, {"error": {"message": message, "type": "BadRequestError", "code": status}})
                return
            if state.meet is not None:
                state.meet.wait(20)
            self._head(200, "text/event-stream")
            try:
                self._stream(checked, body)
            except (BrokenPipeError, ConnectionResetError):
                state.given_up += 1

        def _stream(self, embeds, body):
            made = list(state.tokens(embeds, body)) if body.get("max_tokens") == 1 else state.tokens(embeds, body)
            for n, (token, log_p) in enumerate(made):
                if n == state.break_after:
                    return
                choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": None, "stop_reason": None}
                if body.get("return_token_ids"):
                    choice |= {"prompt_token_ids": None, "token_ids": [token]}
                if "logprobs" in body:
                    best = log_p.topk(body["logprobs"])
                    named = {f"token_id:{i}": v for v, i in zip(*(x.tolist() for x in best), strict=True)}
                    choice["logprobs"] = {"tokens": [f"token_id:{token}"], "top_logprobs": [named]}
                self._event({"id": "cmpl-0", "object": "text_completion", "choices": [choice]})
            self._event("[DONE]")

        def _let_in(self):
            if state.redirect:
                self.send_response(307)
                self.send_header("Location", state.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False
            if state.garbage:
                self._head(200, "text/html")
                self.wfile.write(state.garbage)
                return False
            if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
                self._json(401, {"error": "Unauthorized"})
                return False
            return True

        def _head(self, status, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Connection", "close")
            self.end_headers()

        def _json(self, status, told):
            self._head(status, "application/json")
            self.wfile.write(json.dumps(told).encode())

        def _event(self, told):
            data = told if isinstance(told, str) else json.dumps(told)
            self.wfile.write(f"data: {data}\n\n".encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
