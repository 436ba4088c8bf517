"""How images, a question and its answer are laid out as text: one layout for training, inference and policies."""

from collections.abc import Callable
from dataclasses import dataclass

IMAGE_TOKEN = "<IMG_CONTEXT>"

# What InternVL3.5's released processor writes for pictures and words (docs/model.md), and what nano learned: turns
# without a system turn of their own; an image is one placeholder on its own line.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Render = Callable[[list[dict], bool], str]
"""A chat template: messages, and whether the answer is asked for -> text."""


@dataclass(frozen=True)
class PromptLayout:
    """The text around images, question and answer: `start image ... image QUESTION turn ANSWER end`.

    start: before the first image, a system turn included. image: of each image, with one `<IMG_CONTEXT>` where its
    tokens belong. turn: between question and answer. end: closes an answer; the model learns to write it.
    """

    start: str
    image: str
    turn: str
    end: str

    @classmethod
    def of_template(cls, render: Render, system: str = "") -> "PromptLayout":
        """What a chat template writes. system: the words of the system turn; "" for none of ours.

        ValueError for a template that cannot be said in this form: one without a place for images, or that asks for
        an answer otherwise than it shows one.
        """
        question, answer = "(the question)", "(the answer)"

        def user(images: int) -> list[dict]:
            content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
            first = [{"role": "system", "content": system}] if system else []
            return [*first, {"role": "user", "content": content}]

        start, one, two = (render(user(images), False).partition(question)[0] for images in range(3))
        image = one.removeprefix(start)
        said = render([*user(2), {"role": "assistant", "content": answer}], False)
        turn, _, end = said.removeprefix(two + question).partition(answer)
        layout = cls(start, image, turn, end.rstrip("\n"))
        if image.count(IMAGE_TOKEN) != 1 or two != start + 2 * image:
            raise ValueError(
                f"chat template: it writes {image!r} for an image, not one {IMAGE_TOKEN}; is it InternVL's?"
            )
        if not layout.end or render(user(2), True) != layout.prompt(question, 2):
            raise ValueError(
                f"chat template: it shows an answer after {turn!r}, closed with {end!r}, but asks for one with "
                f"{render(user(2), True).partition(question)[2]!r}; give a chat_template in which they agree"
            )
        return layout

    def images(self, count: int) -> str:
        """What stands before a question about so many images."""
        return self.start + count * self.image

    def prompt(self, question: str, images: int) -> str:
        """A question open for its answer."""
        return self.images(images) + question + self.turn
