"""The guide's checks, called by .ci/book: `pictures` writes definitions, `text` reads Markdown, `links` reads HTML."""

import html.parser
import re
import sys
import urllib.parse
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "src/guide"
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.M)
mistakes = []


def wrong(place, message):
    mistakes.append(f"{place}: {message}")


def end():
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    sys.exit(1 if mistakes else 0)


def chapters():
    """The files of the book, in its order."""
    return re.findall(r"\(([a-z0-9_]+\.md)\)", (GUIDE / "SUMMARY.md").read_text())


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


# Pictures.


def definitions_of_pictures(name):
    """For rustdoc: each picture of a chapter as an address that contains the whole file."""
    lines = []
    for label, target in DEFINITION.findall((GUIDE / name).read_text()):
        if target.startswith("pictures/") and (GUIDE / target).exists():
            svg = " ".join((GUIDE / target).read_text().split())
            # Between `<` and `>` a Markdown address may contain all but these two and a new line.
            lines.append(f"[{label}]: <data:image/svg+xml,{urllib.parse.quote(svg, safe=' =/:;,.()-+*!?@{}')}>\n")
    return "".join(lines) + ("\n" if lines else "")


def pictures():
    folder = GUIDE / "pictures/rustdoc"
    folder.mkdir(parents=True, exist_ok=True)
    for name in chapters():
        if name != "index.md":
            (folder / name).write_text(definitions_of_pictures(name))


def check_picture(path):
    """A picture is read on a phone and on both backgrounds, and is described to those who do not see it."""
    place = path.relative_to(ROOT)
    text = path.read_text()
    try:
        root = xml.etree.ElementTree.fromstring(text)
    except xml.etree.ElementTree.ParseError as error:
        return wrong(place, f"not well-formed: {error}")
    width = float(root.get("viewBox", "0 0 9999 0").split()[2])
    if width > 420:
        wrong(place, f"drawn {width:g} wide; beyond 420 its letters are too small on a phone")
    for size in re.findall(r"font-size[=:]\s*[\"']?([0-9.]+)", text):
        if float(size) < width * 0.0295:
            wrong(place, f"font-size {size} is too small for a width of {width:g}")
    if not root.get("width"):
        wrong(place, "no width: it would fill the page")
    if root.find("{http://www.w3.org/2000/svg}title") is None:
        wrong(place, "no <title>")
    if "prefers-color-scheme: dark" not in text:
        wrong(place, "no colours for a dark page")


# Markdown.


def check_chapter(name, known):
    place = f"src/guide/{name}"
    text = (GUIDE / name).read_text()
    defined = DEFINITION.findall(text)
    labels = [label for label, _ in defined]
    spoken = without_blocks(DEFINITION.sub("", text))
    prose = re.sub(r"`[^`\n]*`", "`code`", spoken)
    for label in {label for label in labels if labels.count(label) > 1}:
        wrong(place, f"[{label}] is defined twice")
    if not re.search(r"(^\[[^\]]+\]: \S+\n)+\Z", text, re.M):
        wrong(place, "does not end with its definitions")

    for target in re.findall(r"\]\(([^)]*)\)", prose):
        if not re.match("#|https?://", target):
            wrong(place, f"({target}) in the text: define a name for it at the end of the file")
    used = set(re.findall(r"\[([^\[\]]+)\](?![\[(])", spoken))
    for label in set(re.findall(r"\]\[([^\]]+)\]", prose)) - set(labels):
        wrong(place, f"[{label}] is not defined")
    for label, target in defined:
        if label not in used:
            wrong(place, f"[{label}] is defined and not used")
        if re.match("https?://|pictures/", target):
            continue
        if label not in known:
            wrong(place, f"[{label}] leads to a file: rustdoc.md must say where it leads in rustdoc")
        file = target.partition("#")[0]
        if not target.startswith("../../") and file not in chapters():
            wrong(place, f"[{label}]: a file outside the guide is written ../../PATH, one inside stands in SUMMARY.md")
        if not (GUIDE / file).exists():
            wrong(place, f"[{label}]: there is no {target}")

    if re.search(r"<(svg|img|br|a |p>|div|details|table|sub|sup)", prose):
        wrong(place, "HTML in the text")
    for info, code in re.findall(r"^```(.*?)$\n(.*?)^```$", text, re.M | re.S):
        language, *flags = info.split(",")
        if not language:
            wrong(place, "a block without a language")
        for flag in flags:
            if flag not in ("no_run", "compile_fail", "should_panic") and not re.match("ignore-", flag):
                wrong(place, f"`{flag}` hides a listing from the tests")
        if language == "rust" and re.search(r"^\s*#( |$)", code, re.M):
            wrong(place, f"a hidden line: {re.search(r'^ *#( .*|)$', code, re.M).group(0)}")
    check_layout(place, name, text, prose)


def check_layout(place, name, text, prose):
    order = chapters()
    title = re.match(r"# (?:(\d+)\. )?\S", text)
    if name == "index.md":
        return
    if not title:
        wrong(place, "does not begin with its title")
    last = text.rpartition("\n---\n")[2]
    here = order.index(name)
    for word, neighbour in ("Back", here - 1), ("Next", here + 1):
        if 0 < neighbour < len(order):
            label = re.search(rf"{word}: \[[^\]]+\]\[([^\]]+)\]", last)
            if not label or dict(DEFINITION.findall(text)).get(label.group(1)) != order[neighbour]:
                wrong(place, f"the last line has no “{word}” to {order[neighbour]}")
    if not name.startswith("ch"):
        return
    if title.group(1) != str(int(name[2:4])):
        wrong(place, "the number of its title is not that of the file")
    if not re.match(r"# .*\n\n\*[^*]*\?\*", text):
        wrong(place, "does not open with its question, in italics")
    if len(re.findall(r"!\[[^\]]{10,}\]\[", prose)) < 2:
        wrong(place, "fewer than two pictures, or one without a description")
    if (ROOT / "examples/workshop/steps_unix.rs").exists():
        line = workshop(name)
        if re.findall(r"^\*Workshop.*", text, re.M) != ([line] if line else []):
            wrong(place, f"about the workshop it should say: {line or 'nothing'}")
    challenges = text.partition("\n# Challenges\n")[2]
    if "**Try it.**" not in challenges or "**Think.**" not in challenges:
        wrong(place, "no “# Challenges” with **Try it.** and **Think.**")


def in_words(numbers):
    """Step 7; steps 1 and 2; steps 1 to 4 and 6 to 10."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = []
    for first, last in runs:
        words += [f"{first}"] if first == last else [f"{first}", f"{last}"] if last == first + 1 else [f"{first} to {last}"]
    listed = " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
    return ("steps " if len(numbers) > 1 else "step ") + listed


def steps_of(file, name):
    """The steps of the workshop that send the reader to a chapter."""
    text = (ROOT / "examples/workshop" / file).read_text()
    text = text.replace("CHAPTER", '"ch04_epoll", "ch05_kqueue"')
    lists = re.findall(r"chapters: &\[(.*?)\]", text, re.S)
    return {number for number, chapters in enumerate(lists, 1) if f'"{name[:-3]}"' in chapters}


def workshop(name):
    """The line that a chapter has about the workshop, or nothing."""
    unix, windows = steps_of("steps_unix.rs", name), steps_of("steps_windows.rs", name)
    if unix == windows:
        return f"*Workshop: {in_words(unix)}.*" if unix else ""
    parts = [in_words(unix)] if unix else []
    parts += [f"on Windows {in_words(windows)}"] if windows and name[:4] not in ("ch04", "ch05") else []
    return f"*Workshop: {', '.join(parts)}.*"


def text():
    known = {label for label, _ in DEFINITION.findall((GUIDE / "rustdoc.md").read_text())}
    order = chapters()
    for name in order:
        if not (GUIDE / name).exists():
            wrong("src/guide/SUMMARY.md", f"there is no {name}")
            continue
        check_chapter(name, known)
        if name != "index.md":
            there = GUIDE / "pictures/rustdoc" / name
            if not there.exists() or there.read_text() != definitions_of_pictures(name):
                wrong(there.relative_to(ROOT), "not what the pictures are now: bash .ci/book --pictures")
    for path in sorted(GUIDE.glob("*.md")):
        if path.name not in order + ["SUMMARY.md", "rustdoc.md"]:
            wrong(path.relative_to(ROOT), "not in SUMMARY.md")
    everything = "".join((GUIDE / name).read_text() for name in order)
    for path in sorted(GUIDE.glob("pictures/*.svg")):
        check_picture(path)
        if f"]: pictures/{path.name}\n" not in everything:
            wrong(path.relative_to(ROOT), "no chapter shows it")
    for target in re.findall(r"^\[[^\]]+\]: (pictures/\S+)$", everything, re.M):
        if not (GUIDE / target).exists():
            wrong("src/guide", f"there is no {target}")


# HTML.


class Page(html.parser.HTMLParser):
    """The places of a page that can be led to, and where its own links and pictures lead."""

    def __init__(self, path, main):
        super().__init__()
        self.ids, self.links, self.main, self.inside = set(), [], main, 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(filter(None, [attributes.get("id"), attributes.get("name")]))
        if self.inside or (tag, attributes.get("id")) == self.main or tag == self.main:
            self.inside += tag == (self.main if isinstance(self.main, str) else self.main[0])
            link = attributes.get("href") if tag == "a" else attributes.get("src") if tag == "img" else None
            if link is not None:
                self.links.append((tag, link))

    def handle_endtag(self, tag):
        if self.inside and tag == (self.main if isinstance(self.main, str) else self.main[0]):
            self.inside -= 1


def check_pages(form, pages, main, home=None):
    """`home`: pages that were written elsewhere behave as if they lay in that folder."""
    seen = {}
    count = {"a": 0, "img": 0}
    read = lambda path: seen.setdefault(path, Page(path, main))
    for path in pages:
        place = f"{form}, {path.name if path.name != 'index.html' else path.parent.name}"
        for tag, link in read(path).links:
            count[tag] += 1
            if re.match(r"https?://|data:image/svg\+xml,%3C", link):
                continue
            file, _, anchor = urllib.parse.unquote(link).partition("#")
            target = ((home or path.parent) / file).resolve() if file else path
            if home and target.suffix == ".md" and target.parent == home and (path.parent / target.name).exists():
                target = path.parent / target.name
            if target.is_dir():
                target = target / "index.html"
            if re.match(r"[a-z]+:", link) or not target.is_file():
                wrong(place, f"dead: {link}")
            elif anchor and "/src/" not in file and target.suffix in (".html", ".md") and anchor not in read(target).ids:
                wrong(place, f"there is no such place: {link}")
            elif form != "pages" and target.suffix == ".md":
                wrong(place, f"Markdown is not shown there: {link}")
    print(f"{form}: {len(pages)} pages, {count['a']} links, {count['img']} pictures")


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links():
    from markdown_it import MarkdownIt

    # As a page of a repository shows it. The file names stay, so that their links can be followed in a browser too.
    folder = ROOT / "target/ci/book/pages"
    folder.mkdir(parents=True, exist_ok=True)
    parser = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    for name in chapters():
        tokens = parser.parse((GUIDE / name).read_text())
        for before, token in zip(tokens, tokens[1:]):
            if before.type == "heading_open":
                before.attrSet("id", slug("".join(part.content for part in token.children)))
        body = parser.renderer.render(tokens, parser.options, {})
        style = "body{font:16px/1.5 sans-serif;max-width:52em;margin:auto;padding:8px}img{max-width:100%}pre{overflow:auto;padding:1em}"
        style += "code,pre{background:#8883;font-size:85%}table{display:block;overflow:auto}:root{color-scheme:light dark}"
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><base href="{GUIDE.as_uri()}/">'
        (folder / name).write_text(f"<!doctype html>{head}<style>{style}</style><main>{body}</main>")
        (folder / name).with_suffix(".html").write_text((folder / name).read_text())
    check_pages("pages", [folder / name for name in chapters()], "main", home=GUIDE)
    book = ROOT / "target/book"
    check_pages("mdBook", [book / name.replace(".md", ".html") for name in chapters()], "main")
    doc = ROOT / "target/doc/minimio/guide"
    check_pages("rustdoc", sorted(doc.glob("**/*.html")), ("section", "main-content"))


{"pictures": pictures, "text": text, "links": links}[sys.argv[1]]()
end()
