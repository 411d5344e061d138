"""The built-in corpora: texts made by this file alone, the same for the same seed on every machine.

Three are puzzles of one line each (sums, brackets, repeats). The stories come from a grammar that stands at the end
of the file and is written in a small notation:

    blank line  next beat of the story
    "- "        one way to tell the beat; one is drawn
    [a/b/c]     a choice, drawn anew wherever it stands
    {word}      a word of this story, the same throughout; {Word} is the same with a capital letter
    ¶           a new paragraph

The hero is {hero} {he} {him} {his}; a 2 marks the second of a kind: {he2} is the friend, {place2} another place.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

STORY_CHARS = 1_000_000
PUZZLE_CHARS = 500_000


@dataclass(frozen=True)
class BuiltIn:
    """A corpus that needs no file: its title, what a learner should watch for, and `make(seed)`, the text."""

    title: str
    look_for: str
    make: Callable[[int], str]


# --- Puzzles ----------------------------------------------------------------------------------------------------------


def sums(seed: int) -> str:
    """Lines such as `347+285=632`, both numbers below 1,000."""
    return _lines(_sum, random.Random(seed))


def brackets(seed: int) -> str:
    """Lines of balanced brackets of four kinds, up to 8 deep, such as `{[]<()>}`."""
    return _lines(_balanced, random.Random(seed))


def repeats(seed: int) -> str:
    """Lines of random letters said three times, such as `kqmzu kqmzu kqmzu`."""
    return _lines(_repeated, random.Random(seed))


def _lines(make_line: Callable[[random.Random], str], rng: random.Random) -> str:
    lines, size = [], 0
    while size < PUZZLE_CHARS:
        lines.append(make_line(rng))
        size += len(lines[-1]) + 1
    return "\n".join(lines) + "\n"


def _sum(rng: random.Random) -> str:
    a, b = rng.randrange(1000), rng.randrange(1000)
    return f"{a}+{b}={a + b}"


def _balanced(rng: random.Random, max_depth: int = 8, max_pairs: int = 20) -> str:
    pairs = rng.randint(4, max_pairs)
    line, awaited = [], []  # awaited: the closing brackets still to come, innermost last
    while pairs or awaited:
        if pairs and len(awaited) < max_depth and (not awaited or rng.random() < 0.55):
            opening, closing = rng.choice(("()", "[]", "{}", "<>"))
            line.append(opening)
            awaited.append(closing)
            pairs -= 1
        else:
            line.append(awaited.pop())
    return "".join(line)


def _repeated(rng: random.Random) -> str:
    # The length varies, so looking a fixed distance back does not help: the model must find the earlier letter.
    letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(5, 15)))
    return " ".join([letters] * 3)


# --- Stories ----------------------------------------------------------------------------------------------------------


def stories(seed: int) -> str:
    """About 1 MB of small stories in plain ASCII; a blank line stands between two stories."""
    rng = random.Random(seed)
    told, size = [], 0
    while size < STORY_CHARS:
        told.append(_tell(rng))
        size += len(told[-1]) + 2
    return "\n\n".join(told) + "\n"


class Shape(NamedTuple):
    """One kind of story: its beats in order, the cases it can be about, and the seasons it can happen in."""

    beats: list[list[str]]
    cases: list[dict[str, str]]
    seasons: list[str]


class Gender(NamedTuple):
    child: str
    he: str
    him: str
    his: str
    names: list[str]


def _tell(rng: random.Random) -> str:
    shape = rng.choice(SHAPES)
    words = _cast(shape, rng)
    beats = (_fill(rng.choice(ways), words, rng) for ways in shape.beats)
    told = " ".join(filter(None, beats))
    return told.replace(" ¶ ", "\n").replace('" "', '"\n"')  # another speaker, another paragraph


def _fill(template: str, words: dict[str, str], rng: random.Random) -> str:
    """Draw the choices, put in the words, and let "a" be "an" before a vowel."""
    drawn = re.sub(r"\[([^]]*)\]", lambda choice: rng.choice(choice[1].split("/")).strip(), template)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", drawn.format_map(words))


def _cast(shape: Shape, rng: random.Random) -> dict[str, str]:
    """Draw the words of one story: who is in it, where and when it happens, and the things it needs."""
    setting = rng.choice(SETTINGS)
    season = rng.choice(shape.seasons)
    words = {"home": setting["home"], "season": season, "weather": rng.choice(WEATHER[season])}
    words |= _characters(setting["folk"], rng)
    words |= _two("place", setting["places"].split(", "), rng)
    words |= _two("helper", HELPERS[setting["folk"]], rng)
    words |= _two("colour", COLOURS, rng)
    words |= _two("treat", TREATS, rng)
    words["family"] = rng.choice(FAMILY)
    for key, value in rng.choice(shape.cases).items():
        words[key] = _fill(value, words, rng)
    return words | {key.capitalize(): word[0].upper() + word[1:] for key, word in words.items()}


def _characters(folk: str, rng: random.Random) -> dict[str, str]:
    # One of them is a he and the other a she, so that a reader always knows who is meant.
    hero, friend = rng.sample((GIRL, BOY), 2)
    words = {"hero": rng.choice(hero.names), "he": hero.he, "him": hero.him, "his": hero.his}
    words |= {"friend": rng.choice(friend.names), "he2": friend.he, "him2": friend.him, "his2": friend.his}
    words |= _two("trait", TRAITS, rng)
    if folk == "children":
        return words | {"kind": hero.child, "kind2": friend.child, "hand": "hand"}
    return words | _two("kind", ANIMALS, rng) | {"hand": "paw"}


def _two(key: str, options: list[str], rng: random.Random) -> dict[str, str]:
    first, second = rng.sample(options, 2)
    return {key: first, f"{key}2": second}


def _listed(text: str) -> list[str]:
    """The entries of a comma-separated list that may run over several lines."""
    return [" ".join(entry.split()) for entry in text.split(",")]


def _table(header: str, rows: str) -> list[dict[str, str]]:
    """One dictionary for each line of a table whose columns are parted by bars."""
    keys = header.split(" | ")
    return [dict(zip(keys, row.strip().split(" | "), strict=True)) for row in rows.strip().splitlines()]


def _beats(text: str) -> list[list[str]]:
    """For each beat the ways to tell it; a bare dash is the way that says nothing."""
    beats = text.strip().split("\n\n")
    return [[" ".join(way.split()) for way in re.split(r"^- ?", beat, flags=re.M)[1:]] for beat in beats]


def _shape(text: str, header: str, rows: str, ending: str, seasons: str = "spring summer autumn winter") -> Shape:
    return Shape(_beats(OPENING + text + ending), _table(header, rows), seasons.split())


# --- The words of the stories -----------------------------------------------------------------------------------------

GIRL_NAMES = _listed("""Mia, Anna, Lily, Rosa, Nora, Ella, Ruby, Hazel, Ivy, Emma, Lucy, Maya, Tess, Daisy, Olive, Alma,
    Poppy, Zoe, Ida, Flora, Kate, Xenia""")
BOY_NAMES = _listed("""Tom, Ben, Max, Leo, Sam, Oscar, Finn, Theo, Jack, Hugo, Milo, Noah, Otto, Paul, Felix, Jonas,
    Eli, Toby, Henry, Luke, Karl, Quinn""")

GIRL = Gender("girl", "she", "her", "her", GIRL_NAMES)
BOY = Gender("boy", "he", "him", "his", BOY_NAMES)

TRAITS = _listed("""curious, cheerful, quiet, brave, shy, gentle, patient, busy, merry, careful, clever, kind, lively,
    thoughtful, dreamy, eager, polite, friendly""")

ANIMALS = _listed("fox, rabbit, bear, mouse, hedgehog, squirrel, badger, otter, mole, beaver, hare, raccoon")

FAMILY = _listed("mother, father, grandmother, grandfather, aunt, uncle")

HELPERS = {
    "children": _listed("""the baker, the miller, the gardener, the postman, the teacher, the shoemaker, the beekeeper,
        the clockmaker, the old fisherman, the shepherd, the carpenter, the doctor"""),
    "animals": _listed("""the old owl, the grey goose, the wise turtle, the tall heron, the black crow, the slow snail,
        the white swan, the fat toad, the old goat, the woodpecker"""),
}

COLOURS = _listed("red, blue, green, yellow, orange, purple, white, silver, brown, pink")

TREATS = _listed("""a slice of apple pie, a bowl of hot soup, a piece of honey cake, a pot of mint tea, a plate of
    pancakes, a loaf of warm bread, a basket of plums, a bag of roasted nuts, a jar of cherry jam, a dish of
    baked pears""")

SETTINGS = _table(
    "folk | home | places",
    """
    children | in a small village by the sea | the harbour, the lighthouse, the sandy beach, the rock pools
    children | in a white house on a green hill | the stone wall, the orchard, the hay barn, the duck pond
    children | in a tall house in the middle of a town | the market square, the fountain, the clock tower, the library
    children | in a mill beside a slow river | the mill pond, the wooden bridge, the willow trees, the barley field
    children | on a farm at the foot of the mountains | the cow shed, the pine wood, the waterfall, the high meadow
    children | in a cottage at the edge of the woods | the old well, the charcoal hut, the birch trees, the crossroads
    children | on an island with one road and seven houses | the little pier, the windy cliff, the goat field
    animals | in a hollow oak in the middle of the forest | the mossy log, the tall pines, the ferns, the round clearing
    animals | in a burrow under a hedge | the garden gate, the cabbage field, the haystack, the crooked fence
    animals | in a den beside a clear stream | the stepping stones, the reeds, the beaver dam, the pebble beach
    animals | in a snug house among the roots of a beech tree | the hazel bushes, the ant hill, the stone arch
    animals | in a little cave above the lake | the north shore, the flat rocks, the rowing boat, the echo wall
    animals | in a quiet valley behind the hills | the long meadow, the old cart, the hawthorn tree, the narrow gorge
    """,
)

WEATHER = {
    "spring": _listed("""the snow had melted and the first flowers were open, a soft rain had washed the world clean,
        the birds were singing in every tree, a warm wind blew from the south, the whole land was green and new,
        small clouds were hurrying across the sky"""),
    "summer": _listed("""the sun was hot and the bees hummed in the clover, the sky was blue from one side to the other,
        the grass was tall and full of crickets, it was so warm that even the flies were sleepy,
        the swallows were flying high, a cool breeze came down from the hills"""),
    "autumn": _listed("""the leaves had turned red and gold, a thick fog lay over the land,
        the wind was chasing leaves along the path, the air smelled of smoke and apples,
        the wild geese were flying south, the puddles were deep and brown"""),
    "winter": _listed("""the snow lay deep and white, every twig was covered with frost,
        icicles hung like glass from the branches, the ground was hard and the air was clear,
        the sun was low and pale, big snowflakes were falling without a sound"""),
}

OPENING = """
- Once upon a time there was a {trait} {kind} named {hero}, who lived {home}.
- Once there was a {trait} {kind} named {hero}. {He} lived {home}.
- {hero} was a {trait} {kind} who lived {home}.
- {Home} there lived a {trait} {kind} named {hero}.
- Long ago, {home}, there lived a {trait} {kind} called {hero}.
- A {trait} {kind} named {hero} lived {home}.
- There was once a {kind} named {hero}, who lived {home}. {He} was {trait}, as everyone could tell you.

-
-
- {He} liked [blue skies/long stories/the smell of rain/quiet mornings/shiny stones/old songs], and {he} did not like
  [cold feet/loud noises/wet socks/lumpy porridge/early bedtimes].
- Every morning {he} [swept the steps/fed the birds/opened all the windows/counted the clouds/filled the kettle] and
  hummed a [little/cheerful/simple/silly] tune.
- {He} kept a box full of [buttons/feathers/shells/acorns/coloured string/old keys] under {his} bed.
- {He} always wore a {colour2} [scarf/hat/coat], even [in bed/at breakfast/on Sundays/when nobody was looking].
- {He} wanted to become a [sailor and a baker/painter and a pilot/dancer and a doctor/pirate and a poet], both at
  once.
- {He} knew [nine/twelve/a hundred] songs by heart, and {he} sang them all [in the bath/on rainy days/on the stairs].
- Everyone knew {him}, because {he} [laughed so easily/asked so many questions/never forgot to say good morning/ was
  never in a hurry].

- {hero}'s best friend was {friend}, a {trait2} {kind2} who [lived next door/told funny stories/could whistle like a
  blackbird/knew the name of every star/laughed at every joke].
- {He} had a good friend, a {kind2} named {friend}, who lived near {place2}.
- {His} friend {friend} lived near {place2}, and they [played together/met/saw each other] nearly every day.
- Next door lived {his} friend {friend}, a {trait2} {kind2} who [loved to sing/was always hungry/could keep a secret/
  never sat still/was good at sums].
- {hero} and {friend} were the best of friends. [They shared everything, even colds./They had met in the rain, under
  the same umbrella./They could talk all day, or say nothing at all.]

- ¶ One {season} [morning/day] {weather}.
- ¶ It was {season}, and {weather}.
- ¶ It was a [fine/still/lovely/quiet] {season} [morning/day], and {weather}.
- ¶ One day in {season}, {hero} [woke up early/jumped out of bed/looked out of the window/stepped outside]. {Weather}.
"""

ENDING = """
-
-
- ¶ {hero} told the story to {helper2}, who told it to {helper}, and soon everybody knew it.
- ¶ And if you walk past {place} today, you may still hear them laughing.
- ¶ "Will you always be my friend?" asked {friend}. ¶ "Always," said {hero}, "and one day longer."
- ¶ From then on, {hero} and {friend} were even better friends than before.
- ¶ {hero} remembered that {season} for a long, long time.
"""

EVENING = """
-
- ¶ That evening they shared {treat2} and watched the stars come out.
- ¶ For supper there was {treat2}, enough for everyone.
- ¶ At supper {hero}'s {family} wanted to hear the whole story, twice.
- ¶ When the moon rose, {hero} was already asleep, with a smile on {his} face.
- ¶ "That was a good day," said {friend}. ¶ "The best," said {hero}.
- ¶ "What shall we do tomorrow?" asked {hero}. ¶ "Something with less [running/mud/noise/climbing]," said {friend},
  and they both laughed.
- ¶ "Well," said {hero}'s {family} at bedtime, "was it a good day?" {hero} only smiled and yawned.
- ¶ And that was how a day in {season} became a day to remember.
"""

LOST = _shape(
    """
- {hero} had a {colour} {toy}, and {he} took it everywhere. But now it was gone.
- {hero} reached under {his} pillow, where {he} kept {his} {colour} {toy}. It was not there!
- "Where is my {toy}?" cried {hero}. It was a {colour} {toy}, a present from {his} {family}, and now it was lost.

- {He} looked under the bed, behind the door and inside the [teapot/kettle/flour jar]. Nothing.
- {He} turned every cushion and opened every drawer. {He} found [three buttons/a feather/half a biscuit/an old
  candle], but no {toy}.
- {He} searched and searched, and the longer {he} searched, the sadder {he} became.

- ¶ "What are you looking for?" asked {friend}. ¶ "My {toy}," said {hero}. "I've looked everywhere." ¶ "Not
  everywhere," said {friend}. "Let's look together."
- ¶ {friend} came by and saw {his} sad face. "What is wrong?" {he2} asked. ¶ "I have lost my {toy}," said {hero}. ¶
  "Then I will help you," said {friend}. "Four eyes see more than two."
- ¶ {hero} ran to {friend}. "My {toy} is gone!" {he} said. ¶ "When did you see it last?" asked {friend}. ¶ {hero}
  thought hard. "Yesterday, near {place}."

- ¶ So they went to {place} and looked behind every stone. There they met {helper}. "Lost things like to hide close to
  home," said {helper}.
- ¶ They walked all the way to {place}, but they found only [an empty nest/a wet glove/a bent spoon/a sleepy beetle].
  "Have you seen a {toy}?" they asked {helper}. ¶ "No," said {helper}, "but I always find things when I stop looking."
- ¶ They asked {helper}, and they asked {helper2}. Nobody had seen the {toy}.

- ¶ At last {friend} called, "Come quickly!" The {toy} was {spot}. {Cause}.
- ¶ {hero} went home and sat down with a sigh. And what did {he} see? The {toy} was {spot}! {Cause}.
- ¶ And where was it? It was {spot}. {Cause}.

- {hero} laughed until {he} had to sit down.
- "Thank you for looking with me," said {hero}. "Looking alone is no fun."
- {hero} tied the {toy} to a {colour2} ribbon, so that it could never get lost again.
- "Next time," said {friend}, "we will look there first."
""",
    "toy | spot | cause",
    """
    whistle | on top of the cupboard | {he} had put it there to keep it safe
    bell | inside an old boot | it had slipped in during the night
    marble | under the rug | it had rolled there all by itself
    key | in the bread basket | {he} had put it down while {he} was eating
    ring | in the soup pot | it had been washed three times and shone like new
    compass | in the pocket of {his} other coat | {he} had forgotten that {he} had two coats
    spoon | in the flower pot | {he} had used it to plant a bulb
    flute | on the window sill | {he} had played for the birds there
    spinning top | behind the water barrel | it had danced all the way there by itself
    button | on {his} own hat | {he} had sewn it there the day before
    book | in the apple tree | {he} had been reading up there
    brush | in a nest under the roof | a sparrow had borrowed it for her children
    """,
    EVENING,
)

MAKE = _shape(
    """
- {hero} wanted to build a {craft}. {He} gathered {stuff} and worked [until noon/for hours/without a rest].
- "I am going to make a {craft}," said {hero}, "the best {craft} in the world." {He} gathered {stuff} and set to work.
- For weeks {hero} had dreamed of a {craft}. Now {he} took {stuff} and began.

- But when the {craft} was ready, {trouble}.
- {He} measured and cut and tied. When it was done at last, {trouble}.
- It was a fine thing to look at. There was only one problem: {trouble}.

- ¶ {hero} tried again, and again {trouble}. "[It's no use/I give up/I will never learn this]!" {he} [cried/sighed/
  groaned].
- ¶ {hero} kicked a pebble. "[Why does it not work/What did I do wrong]?" {he} [grumbled/muttered/asked the sky].

- ¶ "Nobody gives up before lunch," said {friend}. "Let's ask {helper}."
- ¶ "I know someone who can help us," said {friend}, and {he2} ran to fetch {helper}.
- ¶ {friend} scratched {his2} head. "It's nearly right," {he2} said. "Come, we will show it to {helper}."

- ¶ {Helper} looked at the {craft} from all sides. "{Answer}," said {helper}.
- ¶ {Helper} walked around the {craft} once, and then once more. "I see," said {helper}. "{Answer}."
- ¶ "Hm," said {helper}. "May I tell you a secret? {Answer}."

- ¶ So {friend} held the pieces and {hero} tied the knots. This time {success}.
- ¶ They went back to work, and they did not hurry. And look! This time {success}.
- ¶ {hero} and {friend} changed it together. They held their breath. Then {success}.

- "We did it!" cried {friend}. ¶ "Yes," said {hero}. "It only took the two of us."
- "Hurrah!" they shouted, so loudly that [the crows flew up/the cows looked around/someone opened a window].
- {hero} painted it {colour} and {colour2}, and {he} wrote both their names on it.
- "A mistake is only a question," said {helper}, "and you have found the answer."
""",
    "craft | stuff | trouble | answer | success",
    """
    kite | paper and thin sticks | it would not fly | It needs a longer tail | it rose higher than the tallest tree
    raft | six logs and a rope | it tipped over | It is too narrow | it floated as calmly as a duck
    swing | a plank and some rope | it hung crooked | One rope is too short | it swung right up to the leaves
    bird house | old boards and nails | no bird would come | The door is too big | two wrens moved in before noon
    cart | a box and four wheels | one wheel kept falling off | It needs a wooden pin | it rattled along like thunder
    bridge | poles and planks | it shook at every step | It needs a strong beam below | it stood as firm as a rock
    scarecrow | straw and an old coat | the crows sat on its arms | It needs bells on its sleeves | every crow flew away
    flute | a hollow reed | it only squeaked | The holes are too wide | it sang like a nightingale
    lantern | paper and wire | the candle kept going out | It needs a little roof | it glowed like a small moon
    drum | a barrel and a blanket | it made no sound | The skin is not tight enough | it boomed across the land
    tent | two poles and a sheet | it fell down at the first breeze | Tie it to four pegs | it stood like a castle
    windmill | cloth and a long stick | it would not turn | Tilt the sails a little | it spun so fast that it hummed
    """,
    EVENING,
)

RESCUE = _shape(
    """
- {hero} and {friend} were on the way to {place} when they heard a small, sad sound.
- {hero} and {friend} went for a walk. Near {place} they stopped. Somebody was crying, very softly.
- {hero} and {friend} were playing near {place} when they heard a strange little noise.

- "Did you hear that?" {he} whispered. {friend} nodded.
- "Listen," said {hero}. "Somebody needs help."
- "What is that?" asked {friend}. "Is it [the wind/a ghost/a squeaky door]?"

- ¶ They looked behind the [stones/bushes/tall grass], and there they saw a {creature}. It {trouble}.
- ¶ It was a {creature}, no older than a few weeks. The poor thing {trouble}.
- ¶ There, in the shadow, was a little {creature}. It {trouble}, and it trembled all over.

- ¶ "Don't be afraid," said {hero}. "We will help you."
- ¶ "Oh dear," said {friend}. "What shall we do?" ¶ {hero} thought for a moment. "I know," {he} said. "But we must be
  very gentle."
- ¶ "Should we call {helper}?" asked {friend}. ¶ "There is no time," said {hero}. "We can do it, if we keep calm."

- ¶ Carefully, they {rescue}.
- ¶ {hero} spoke in a low voice, and the {creature} grew quiet. Then they {rescue}.
- ¶ First they gave it a little water. Then, without a sound, they {rescue}.

- "There you are," said {hero}. "Now you are safe."
- The {creature} looked at them with bright eyes, and then it hurried away.
- The {creature} took one step, and then another, and then it danced for joy.

- ¶ The next morning there was [a shiny pebble/a white feather/a lucky clover/a round blue shell] on the doorstep. "I
  think I know who brought it," said {friend}.
- ¶ "Will we see it again?" asked {friend}. ¶ They did. The {creature} came back every {season}, and once it brought
  its whole family.
- ¶ {Helper} had seen it all from far away. "Small deeds make a big heart," said {helper}.
- ¶ Since then, whenever {hero} walks past {place}, a {creature} follows {him} for a while.
""",
    "creature | trouble | rescue",
    """
    duckling | had fallen into a deep hole | put a plank into the hole, and out it walked
    lamb | was caught in a thorn bush | bent the thorns aside, one by one
    robin | had hurt its wing | wrapped the wing in a strip of soft cloth
    pony | was stuck in the mud | laid straw under its feet and pulled on a long rope
    frog | had jumped into a bucket and could not get out | tipped the bucket on its side
    beetle | lay on its back and kicked with all six legs | turned it over with a blade of grass
    calf | had lost its mother | rang a bell until the mother answered
    seagull | was tangled in an old net | untied the knots, one after another
    kitten | had climbed too high and could not come down | held a blanket by its corners and let it jump
    piglet | was stuck between two boards | pushed the boards apart with a strong stick
    swallow | had flown into a shed and could not find the way out | opened every window and stepped back
    """,
    ENDING,
    "spring summer autumn",
)

SHARE = _shape(
    """
- {hero} and {friend} found {item} near {place}. "I saw it first!" said {hero}. ¶ "But I touched it first!" said
  {friend}.
- {Helper} had given {hero} and {friend} {item}, but there was only one. "It's mine!" said {hero}. ¶ "No, it's mine!"
  said {friend}.
- On a table near {place} they found {item}, with a note: "For {hero} and {friend}." Both of them wanted it. "You
  always go first," said {friend}. ¶ "You always say that," said {hero}.

- ¶ They pulled and pushed and shouted, until [a button flew off/both were red in the face/the birds flew away]. Then
  they sat down, back to back, and nobody said a word.
- ¶ {hero} frowned. {friend} folded {his2} arms. It was very quiet.
- ¶ {hero} went to one side of the path and {friend} went to the other. Neither of them was happy there.

- ¶ After a while {helper2} came by. "What a pity," said {helper2}. "So much {season} and so little fun. Why are you
  angry?"
- ¶ "Why so silent?" asked {helper2}, who was passing with a [heavy basket/squeaky cart/big umbrella].

- ¶ They told the whole story, both at once. {Helper2} listened and smiled. "{Answer}," said {helper2}.
- ¶ When {helper2} had heard everything, the answer was easy. "{Answer}."

- ¶ {hero} looked at {friend}. {friend} looked at {hero}. "You go first," said {hero}. ¶ "No, you," said {friend}, and
  then they had to laugh.
- ¶ It worked. {Result}.
- ¶ So that is what they did. {Result}.

- "I'm sorry that I shouted," said {hero}. ¶ "I'm sorry too," said {friend}.
- "It is more fun with you," said {friend}. "[Everything is./I had forgotten that.]"
- And they never quarrelled about it again, or at least not [before supper/that week/very loudly].
""",
    "item | answer | result",
    """
    a big red apple | One of you cuts, and the other one chooses | Never was an apple cut with so much care
    a round cheese | One of you cuts, and the other one chooses | The two halves were exactly the same
    a sweet melon | One of you cuts, and the other one chooses | There was even a slice left over for the ants
    a new swing | One of you pushes while the other one flies | They took turns until it grew dark
    a hammock | Lie head to toe, and there is room for two | They rocked and told each other stories
    a wooden cart | One of you pulls while the other one rides | They changed places at every corner
    a telescope | One of you looks while the other one draws | Together they made a map of the moon
    a wide umbrella | Walk close together, and you will both stay dry | They practised without any rain
    a warm blanket | Sit close together, and it will cover you both | It was much warmer that way
    a rowing boat | A boat has two oars, so take one each | The boat went straight for the first time
    a box of paints | Paint one picture together | It had a {colour} sky and a {colour2} horse
    a long rope | Tie it to a tree, and one of you can turn while the other one jumps | They jumped a hundred times
    """,
    EVENING,
)

FEAR = _shape(
    """
- {hero} was not afraid of [mud/bees/cold water/tall trees/big dogs]. But {he} was afraid of {fear}.
- There was one thing that {hero} had never told anyone: {he} was afraid of {fear}.
- "I don't like {fear}," said {hero}. "I don't like it at all."

- ¶ "Everybody is afraid of something," said {friend}. "I am afraid of [spiders/geese/loud clocks/deep water]. Shall
  we go and look together?" ¶ "Tonight?" asked {hero}. ¶ "Tonight," said {friend}, "before we change our minds."
- ¶ "Come with me tonight," said {friend}. "You can hold my {hand}. I will count to ten, and then we will go."
- ¶ {friend} did not laugh. "Tonight we will go together," {he2} said. "We will take some bread, because brave people
  get hungry."

- ¶ When the moon was up, they went on tiptoe, step by step. {hero} could hear {his} own heart. And then there was
  {sign}!
- ¶ Night came, and they set out. At first nothing happened. Then, out of the dark, came {sign}. {hero} held {his}
  breath.
- ¶ That night their lantern threw long shadows. Suddenly there was {sign}. "[Help/Oh no/Run]!" [squeaked/whispered]
  {hero}.

- ¶ But {friend} stood still. "Wait," {he2} said. "Look again." {hero} opened one eye. It was only {truth}.
- ¶ {hero} wanted to run away. But {he} took one more step, because {friend} was there. And what did {he} see? It was
  only {truth}!
- ¶ "Who is there?" asked {hero} in a very small voice. Nobody answered. {He} took one more step. It was nothing but
  {truth}.

- {hero} laughed, and {his} knees stopped shaking.
- "Is that all?" said {hero}. "I have been afraid of that?"
- "Good evening," said {hero} politely, and {he} felt ten feet tall.

- ¶ Afterwards {hero} was still a little afraid of {fear}. But a little is not so much.
- ¶ "Were you not afraid?" asked {hero} on the way home. ¶ "Very," said {friend}. "That is why I held on to you."
- ¶ "To be brave," said {his} {family} later, "is to be afraid and to go anyway."
""",
    "fear | sign | truth",
    """
    the dark | a pair of yellow eyes | two glow worms, sitting side by side
    the dark | a tall black shape | a coat on a washing line
    the cellar | a deep, slow growl | an old dog, snoring beside the potatoes
    the attic | a scratching in the corner | a family of mice, making a bed of wool
    the old well | a hollow voice | an echo that said everything twice
    the woods at night | a pale, round face | a young owl who wanted to say good evening
    the empty house | a creaking on the stairs | a loose shutter that the wind was rocking
    the long tunnel | the sound of heavy feet | a donkey on its way home
    the night | a white thing that danced | a shirt that the wind had stolen
    the fog | a huge grey giant | a tree with a nest in its hair
    """,
    ENDING,
)

JOURNEY = _shape(
    """
- {hero} had to bring {treat} to {his} [grandmother/grandfather/aunt], who lived far away, beyond {place2}.
- A letter had come from {his} [grandmother/old aunt/cousin]. "I have a cold," it said. "Please come and see me." So
  {hero} packed {treat} into a basket.
- "Take this to your [grandmother/grandfather]," said {his} {family}, and gave {hero} {treat}. "And don't eat it on
  the way."

- "May I come with you?" asked {friend}. ¶ "Of course," said {hero}. "Two make a short road."
- {friend} came along, because {he2} loved [long walks/new places/the smell of the basket].
- "It's a long way," said {hero} to {friend}. ¶ "Then let us sing," said {friend}, and they did.

- ¶ They walked past {place}, over a hill and down again. But then {obstacle}.
- ¶ All went well until they came to {place}. There {obstacle}.
- ¶ Half of the way was easy. After that {obstacle}.

- "What now?" asked {friend}. "Shall we turn back?" ¶ "Not yet," said {hero}.
- {friend} sat down on a stone. "We will never get there," {he2} sighed.
- "Oh no," said {hero}. They stood and thought for a long time.

- ¶ Then {hero} had an idea. They {way}.
- ¶ "You look lost," said a voice. It was {helper}. "Others have been here before you. Use your eyes, and use your
  heads." So they looked around, and they {way}.
- ¶ {hero} smiled. "There is always a way," {he} said, and there was. They {way}.

- ¶ It was nearly dark when they knocked at the door. "Come in, come in!" called a happy voice. "You must be hungry!"
- ¶ The door was open, and the fire was bright. "You came all that way for me?" said a voice from the armchair. "I
  feel younger already."
- ¶ When they arrived at last, the kettle was singing. They sat by the fire and shared {treat}, and it was the best
  that they had ever tasted.
""",
    "obstacle | way",
    """
    the bridge was broken | found a row of flat stones and jumped from one to the next
    a fallen tree lay across the path | crawled under it like two beetles
    a thick fog came up and hid the path | followed the sound of a church bell
    a fat goose stood in the way and hissed | sang to it until it fell asleep
    the path went off in three directions | took the one with the most footprints
    the stream was too wide to jump | built a bridge from an old ladder
    the gate was locked | walked along the wall until they found a hole
    a sleepy bull lay across the path | picked a bunch of clover and laid it in the shade
    the hill was too steep | went up in a zigzag, as the goats do
    the wind blew so hard that they could not walk | went backwards, and that made them laugh
    """,
    ENDING,
)

SURPRISE = _shape(
    """
- It was {his} birthday, but nobody had said a word about it.
- {hero} had waited a whole year for this day. It was {his} birthday!
- {hero} counted on {his} {hand}s. Yes, there was no doubt: today was {his} birthday.

- ¶ "Good morning!" {he} called to {friend}. "Do you know what day it is?" ¶ "Is it
  [Monday/Tuesday/Wednesday/Thursday/ Friday]?" said {friend}. "I'm sorry, I have to go." And {he2} hurried away.
- ¶ {He} knocked at {friend}'s door. "Do you want to play?" {he} asked. ¶ "Not today," said {friend} through the door.
  "I am [washing my hair/counting my spoons/very busy/looking for a hammer]."

- ¶ Then {he} went to see {helper}. "I have no time," said {helper}, and hid something {colour} behind the door.
- ¶ On the road {he} met {helper}, who was carrying [a big box/nine chairs/a very long ladder/a sack of flour]. "Is
  that for a party?" asked {hero}. ¶ "A party?" said {helper}. "What party?"
- ¶ Even {helper} and {helper2} only nodded and walked on, whispering.

- ¶ {hero} sat down near {place}. "They have all forgotten me," {he} said to a [snail/beetle/sparrow]. A tear ran down
  {his} nose.
- ¶ {hero} walked alone to {place} and threw pebbles at nothing. It was the longest afternoon of the year.
- ¶ "Well," said {hero}, "then I will have a party by myself." {He} sang a birthday song, but it sounded thin.

- ¶ Just then {he} saw a light near {place2}. {He} went closer. There were [lanterns in all the trees/{colour} flags
  on a string/a hundred candles]. "Surprise!" shouted {friend}, and {helper}, and {helper2}, and everyone else.
- ¶ Suddenly somebody covered {his} eyes. "Don't look," said {friend}. {He2} led {him} along the path and around the
  corner. "Now!" There was a table with {colour} and {colour2} ribbons, and all {his} friends were there.
- ¶ When {he} came home, the house was dark. {He} opened the door. "Surprise!" shouted twenty voices, and the lamps
  went on all at once.

- "You didn't forget!" said {hero}. ¶ "Forget?" said {friend}. "We have worked on it for a week."
- There was {treat}, and there was music, and {helper} danced on the table.
- {friend} gave {him} a {friend_gift}. "I made it myself," {he2} said. {hero} could not say anything at all.
""",
    "friend_gift",
    """
    music box
    {colour2} scarf
    little ship in a bottle
    book of maps
    bird cut from wood
    lantern with paper stars
    """,
    ENDING,
)

LEARN = _shape(
    """
- {friend} could {skill}, and {hero} could not. "Teach me," said {hero}.
- More than anything, {hero} wanted to {skill}.
- "Today," said {hero}, "I will learn to {skill}."

- {He} tried it at once, but {fail}.
- {He} took a deep breath and began, but {fail}.
- It looked so easy! But when {he} tried it, {fail}.

- ¶ {He} tried it a second time, and a third time. Each time {fail}. {Helper} walked by and tried very hard not to
  laugh.
- ¶ "That was [not bad/nearly right/very brave]," said {friend}. "Try again." {hero} tried again, and again {fail}.
- ¶ "I can't do it," said {hero}. ¶ "You can't do it yet," said {friend}. "That is not the same." ¶ "It feels the
  same," said {hero}.

- ¶ Then {helper2} came along. "When I was young," said {helper2}, "it was just the same with me. Here is the trick:
  {trick}."
- ¶ "Let me tell you how I learned it," said {friend}. "{Trick}. That is the whole secret."
- ¶ {friend} thought about it. "{Trick}," {he2} said at last, "and do not think about your nose."

- ¶ {hero} practised on Monday, on Tuesday and on Wednesday. On Thursday {he} wanted to stop. But on Friday {success}.
- ¶ {hero} tried once more, slowly this time. And suddenly {success}!
- ¶ {He} practised every day near {place}, where nobody could see {him}. One evening {success}.

- "I can do it!" {he} shouted. "Look, I can do it!"
- {friend} clapped {his2} {hand}s. "I knew it," {he2} said.
- "How did you learn that?" asked {helper}. ¶ "I was bad at it for a long time," said {hero} proudly.

- ¶ The next day a small [neighbour/cousin] came to {hero}. "Can you teach me too?" asked the little one. ¶ "With
  pleasure," said {hero}. "First you must be bad at it."
-
-
""",
    "skill | fail | trick | success",
    """
    whistle | only air came out | make your lips as round as a plum | out came a note as clear as glass
    juggle | all the apples fell on {his} head | look at the apples, not at your {hand}s | all three stayed up
    dance | {he} tripped over {his} own feet | count to three, again and again | {his} feet knew the way by themselves
    skip stones | every stone said plop and sank | take a flat one and throw it low | a stone hopped seven times
    bake bread | it came out as hard as a brick | let the dough sleep under a warm towel | it was soft and golden
    paint a horse | it looked like a potato with legs | look twice before you paint once | the horse seemed to gallop
    row a boat | it went around in circles | pull both oars at the same time | the boat went straight as an arrow
    catch a ball | it bounced off {his} nose | watch the ball until you feel it | {he} caught it with one {hand}
    walk on stilts | {he} sat down in a puddle | look at the road, not at the ground | {he} walked like a stork
    play the fiddle | it howled like a wet cat | hold the bow as you would hold an egg | it sang like a bird
    tie a good knot | it fell open at once | the rope goes out of its hole and around the tree | the knot held
    tell a joke | {he} forgot the end | smile first and speak slowly | everyone laughed, and {he} laughed loudest
    """,
    ENDING,
)

MYSTERY = _shape(
    """
- Something strange was going on. {Sign}, and nobody knew why.
- "It has happened again," said {hero}. {Sign}. It was the third time that week.
- {hero} had a big notebook for strange things. In it {he} wrote: "{Sign}. Why?"

- ¶ "I am sure that it is {guess}," whispered {friend}. ¶ "There is no such thing," said {hero}, but {he} was not so
  certain.
- ¶ {hero} told {friend} about it. "That sounds like {guess}," said {friend}, and {his2} eyes grew [round/big/wide].
- ¶ {hero} asked {helper}. "Perhaps it is {guess}," said {helper}. "When I was small, we had one too."

- ¶ That night they hid behind [a curtain/a barrel/a stove/a big chair] with a lantern and {treat}. They waited. An
  owl called. The clock struck ten, and then eleven.
- ¶ "We will find out," said {hero}. They wrapped themselves in a {colour} blanket and kept watch. Soon {friend} was
  half asleep.
- ¶ They made a plan. {hero} would keep watch until midnight, and {friend} would keep watch after that. In the end
  neither of them dared to blink.

- ¶ Then it came. "Now!" cried {hero}, and lifted the lantern. It was not {guess} at all. It was {truth}.
- ¶ Just before midnight {friend} grabbed {his} {hand}. "There!" {he2} whispered. They crept closer and closer, and
  what did they see? It was {truth}.
- ¶ A floorboard creaked. {hero} jumped up and opened the door. And there, in the moonlight, was {truth}.

- "Oh," said {friend}. "Hello."
- Everyone was rather surprised, and then everyone was rather pleased.
- "I'm sorry if I frightened you," said a small voice.
- They laughed so much that they woke up {helper2}.

- ¶ After that they left a little [milk/bread/cheese/light] by the door every night, just in case.
- ¶ "I am almost sad," said {friend}. "I would have liked to meet {guess}." ¶ "Perhaps next week," said {hero}.
- ¶ On the last page of a notebook {hero} wrote: "Solved." Then {he} put out the light and slept until noon.
""",
    "sign | guess | truth",
    """
    every night there was a tapping at the window | a ghost | a moth that loved the light of the lamp
    every morning there were crumbs on the floor | a thief | a tiny mouse with six hungry children
    there were round footprints around the house | a monster | a lost lamb, looking for a warm place
    something hummed under the floor | a dragon | a cricket, practising a new song
    a light was wandering over the hill | a fallen star | {helper2}, looking for a lost hat
    the washing was folded every morning | a fairy | {his} {family}, fast asleep and walking about
    somebody had drawn circles in the sand | a wizard | a hen with a stick in her beak
    a voice was singing in the chimney | a giant | a starling who had built her nest on top
    the milk was gone every morning | a goblin | a very small kitten with a very white nose
    the bell rang at midnight, but nobody was at the door | a ghost | a young goat who liked the taste of the rope
    """,
    ENDING,
    "spring summer autumn",
)

GARDEN = _shape(
    """
- {Helper} gave {hero} a tiny seed. "What is in it?" asked {hero}. ¶ "Wait and see," said {helper}.
- In {his} pocket {hero} found a seed, as small as a crumb. "I wonder what it will be," {he} said to {friend}.
- At the market {hero} had bought one single seed. "Only one?" asked {friend}. ¶ "It is a good one," said {hero}.

- ¶ They dug a hole near {place}, put the seed in, and covered it with dark earth. {hero} gave it some water and sat
  down to wait.
- ¶ {hero} planted it in the sunniest corner. {friend} brought the water, and together they put up a little fence.

- ¶ One day went by. Nothing happened. Two days went by, and then a week. "It's asleep," said {friend}. ¶ "Then I will
  sing to it," said {hero}.
- ¶ Every morning {hero} ran out to look, and every morning there was only earth. "Perhaps it was a pebble," {he}
  sighed. ¶ "Seeds cannot hear you when you hurry," said {friend}.
- ¶ "Grow!" said {hero} to the ground. "Please grow!" The ground said nothing. ¶ "[Patience/Give it time/Not so
  loud]," said {friend}.

- ¶ Then it rained for three days. When the sun came back, something green was looking out of the earth. It was no
  bigger than a [mouse ear/fingernail/bread crumb].
- ¶ And then, when {he} had almost stopped looking, there was a green tip. "{friend}!" {he} shouted. "Come and see!"

- ¶ The plant grew and grew. By the end of summer {harvest}.
- ¶ It had two leaves, and then four, and then too many to count. When the days grew short, {harvest}.

- "All that was in one little seed?" said {friend}. ¶ "All that," said {hero}, "and some rain, and some waiting."
- {hero} kept one seed for the next year and gave one to {friend}.
- {Helper} came to see it. "You have good {hand}s," said {helper}, "and what is better, you can wait."
""",
    "harvest",
    """
    there was a pumpkin as big as a washing tub, and it made soup for everybody
    there stood a sunflower taller than the roof, and the bees came from far away
    there were forty beans on one stalk, and every bean had a {colour} spot
    there was a melon so heavy that it took three friends to carry it
    there were strawberries for breakfast, for lunch and for supper
    there was a rose bush with a hundred {colour} roses
    there was a cabbage so round and so wide that {friend} could sleep behind it
    there was a vine that climbed all the way up to {his} window
    """,
    ENDING,
    "spring",
)

TRADE = _shape(
    """
- {hero} wanted to give {friend} a {gift}, but {he} had no money. {He} had only {item}.
- Soon it would be {friend}'s birthday, and {he2} wished for a {gift}. {hero} looked into {his} pocket. There was
  {item}, and nothing else.
- "I would love to have a {gift}," {friend} had said. {hero} had not forgotten it. But all that {he} owned was {item}.

- ¶ Near {place} {he} met {helper}. "What a fine thing you have there," said {helper}. "{Need}. Will you trade?" ¶
  "What will you give me?" asked {hero}. ¶ "{Item2}," said {helper}, and so they traded.
- ¶ {He} took it and set out. {Helper} was standing near {place} with a long face. "{Need}," said {helper}. ¶ "Take
  this," said {hero}. {Helper} was so glad that {hero} got {item2} in return.

- ¶ {hero} walked on to {place2}. There sat {helper2}. "{Need2}," said {helper2}. "If only I had {item2}!" ¶ "Here it
  is," said {hero}. ¶ "How wonderful! Then you must have this {gift}. I have two of them."
- ¶ A little later {he} came to {place2}. "Stop!" called {helper2}. "Is that {item2}? {Need2}. I will give you my
  {gift} for it." ¶ {hero} could hardly believe {his} ears.

- ¶ {hero} ran all the way back. "Close your eyes," {he} told {friend}, "and hold out your {hand}s."
- ¶ {He} wrapped the {gift} in {colour} paper and laid it at {friend}'s door. Then {he} hid behind a bush.

- ¶ "A {gift}!" cried {friend}. "But how did you pay for it?" ¶ "With {item}," said {hero}, and {friend} did not
  understand a word.
- ¶ "It is just what I wanted," said {friend}. "How did you know?" ¶ "I have ears," said {hero}.
- ¶ {friend} was so happy that {he2} turned three somersaults. And {helper} was happy, and {helper2} was happy, and
  {hero} was the happiest of all.
""",
    "gift | item | need | item2 | need2",
    """
    music box | a ball of string | I must tie up my beans | a pot of honey | My throat is so sore
    paint box | a straw basket | I have nothing to carry my eggs in | a candle | It is so dark in my cellar
    red kite | a little bell | My goat is always running away | a wool blanket | My bed is so cold at night
    fiddle | a bag of nails | The wind has taken half my roof | a lantern | I am afraid to go home in the dark
    toy boat | a loaf of bread | I have had no breakfast | a ladder | I cannot reach my cherries
    storybook | a jar of jam | I have only dry bread today | a pair of boots | My shoes are full of holes
    telescope | a thick rope | My boat is drifting away | a feather pillow | I cannot sleep on straw
    silver flute | a broom | My floor is full of leaves | a sack of flour | I cannot bake without flour
    puppet | a box of buttons | My coat is open in front | an umbrella | The rain is running down my neck
    drum | an old key | I cannot open my own door | a bag of sugar | My lemons are so sour
    """,
    EVENING,
)

STORM = _shape(
    """
- But then dark clouds came over the hills. "I don't like the look of that," said {friend}.
- Nobody saw the storm coming. First the birds fell silent. Then the sky turned as black as a kettle.
- Then the wind began to blow. It blew harder and harder, until [the doors banged/the trees groaned/hats and socks
  flew by].

- ¶ {hero} and {friend} ran inside and shut the door. The thunder rolled, and the rain beat on the walls. "Are we safe
  here?" asked {friend}. ¶ "As safe as two [nuts in a shell/eggs in a nest/coins in a purse]," said {hero}.
- ¶ All night long it roared and rattled. {hero} held {his} pillow over {his} ears and thought of {helper}, who lived
  all alone.

- ¶ In the morning it was over. The air was fresh, and drops hung on every branch. But {damage}.
- ¶ When they opened the door, the sun was shining. "Oh no," said {hero}. {Damage}.
- ¶ The next day they went out to look. Near {place} they found {helper}, who was close to tears. {Damage}.

- ¶ "It will take me a year to mend that," said {helper}. ¶ "Not if we all help," said {hero}.
- ¶ "I am only small," said {friend}. "What can I do?" ¶ "If everyone does one small thing," said {hero}, "it will be
  a big thing."
- ¶ {hero} rolled up {his} sleeves. "Where shall we begin?" {he} asked.

- ¶ So {helper2} brought [a ladder/some rope/a hammer/a cart], and {friend} brought [nails/boards/buckets/strong tea],
  and they {repair}.
- ¶ They called everybody together, the young and the old. Side by side they {repair}.
- ¶ They did not waste a minute. Singing all the time, they {repair}.

- "It is better than it was before," said {helper}, and wiped away a tear.
- "How can I thank you?" asked {helper}. ¶ "With {treat}," said {friend} at once.
- {Helper2} played a tune, and the whole neighbourhood danced.
- "Let it storm," said {hero}. "We know what to do."
""",
    "damage | repair",
    """
    the storm had torn half the roof from {helper}'s house | nailed on new boards, one after another
    the little bridge had been washed away | laid three strong trunks across the stream
    the fence lay flat, and the sheep were gone | set up every post and led the sheep back home
    the boats were upside down, and their sails were torn | turned them over and sewed up the sails
    the road was covered with stones | carried the stones away and built a wall with them
    the big old tree had fallen across the path | sawed it into benches, one for everybody
    the chimney had fallen into the garden | put it up again, brick by brick
    the window was broken, and the rain had come in | put in new glass and dried the floor
    the haystack had blown away | gathered it up again, every last straw
    """,
    EVENING,
    "spring summer autumn",
)

RIDDLE = _shape(
    """
- Near {place} sat {helper}. "Stop," said {helper}. "You may pass when you have solved my riddle."
- "Do you like riddles?" asked {helper} with a wink. ¶ "Oh yes," said {hero}. ¶ "Oh no," said {friend}.
- {hero} and {friend} were bored. "Then I will give you a riddle," said {helper}. "Whoever solves it gets {treat}."

- ¶ Everyone was quiet. "Here it is," said {helper}. "{Riddle}. What am I?"
- ¶ {Helper} spoke slowly: "{Riddle}. Who am I?"

- ¶ "That's easy," said {friend}. "It's {wrong}!" ¶ "No," said {helper}. "Think again."
- ¶ "Could it be {wrong}?" asked {friend}. ¶ {Helper} laughed. "A good guess, but it is not right."
- ¶ {friend} whispered something to {hero}. "Is it {wrong}?" asked {hero}. ¶ "It is not," said {helper}, who seemed to
  enjoy it very much.

- ¶ They thought about it until the sun stood over {place2}. {hero} [bit {his} lip/walked up and down/lay down in the
  grass/stood on one leg]. Then {he} [smiled/laughed/clapped].
- ¶ {hero} said the words again and again. {He} shut {his} eyes. Suddenly they flew open.
- ¶ A long time went by. {friend} fell asleep. But {hero} did not give up.

- "I know!" {he} cried. "It's {answer}!"
- "Wait," {he} said softly. "It must be {answer}."
- "Of course," {he} said. "The answer is {answer}."

- ¶ "Right!" said {helper}, and clapped. "It took me a month to find that out."
- ¶ "Well done," said {helper}. "And now you must ask somebody else."
- ¶ {Helper} bowed. "You have a good head, and you know how to use it."

- ¶ Later {hero} tried the riddle on {his} {family}, who thought about it for three days.
- "How did you do that?" asked {friend}. ¶ "I listened to every word," said {hero}.
-
""",
    "riddle | wrong | answer",
    """
    I have hands, but I cannot clap | a pair of gloves | a clock
    I have many teeth, but I never bite | an old dragon | a comb
    I follow you all day, but I am gone in the dark | a hungry dog | your shadow
    The more you take away from me, the bigger I grow | a hungry bear | a hole
    I am full of holes, but I can hold water | a leaky bucket | a sponge
    I have a neck, but I have no head | a very shy turtle | a bottle
    I go up the hill and down the hill, but I never move | a lazy goat | the path
    I can run, but I have no legs | a snake | a river
    I am always on my way, but I never arrive | a very slow snail | tomorrow
    I answer every call, but I never ask anything | a good child | an echo
    I have a bark, but I do not bite | a friendly dog | a tree
    I have four legs, but I cannot walk | a tired horse | a table
    I have one eye, but I cannot see | a sleepy pirate | a needle
    I fall all winter, and I never hurt myself | a clumsy clown | the snow
    I am light as a feather, but nobody can hold me for long | a soap bubble | your own breath
    """,
    EVENING,
)

RACE = _shape(
    """
- "I bet I am faster than you," said {friend}. ¶ "We shall see," said {hero}. They agreed to race to {place} and back
  for a {colour} {prize}.
- It was the day of the great race, from {place2} to {place}. {hero} was there, and {friend} was there, and both
  wanted to win the {colour} {prize}.
- "Whoever is the first at {place} wins my {prize}," said {helper}. {hero} and {friend} lined up side by side.

- ¶ "One, two, three, go!" called {helper2}, and off they went. {friend} ran like the wind, and soon {he2} was far
  ahead.
- ¶ {Helper2} waved a {colour2} flag, and they flew away. At the first corner {hero} was in front.
- ¶ They started so fast that {helper2} lost a hat. First {friend} was ahead, then {hero}, then {friend} again.

- ¶ But what was that? At the side of the path was somebody {need}. "{Plea}"
- ¶ Then {hero} heard a voice. It was a stranger {need}. "{Plea}"

- ¶ {hero} looked at the road, and {he} looked at the stranger. {He} wanted so much to win. But {he} stopped and
  {help}.
- ¶ {hero} sighed, because the race was so close. Then {he} turned around and {help}.

- ¶ When {he} came to the end at last, {friend} was sitting on the grass, just before the line. "I heard what you
  did," said {friend}. "I didn't want to win like that." So they crossed the line together.
- ¶ Of course {friend} was there first. But {he2} took the {prize} and put it into {his} {hand}s. "I have the faster
  feet," {he2} said, "but you have the better heart."
- ¶ {hero} was the last to arrive. But then the stranger told everyone what had happened, and there was a cheer as
  loud as thunder.

- "Shall we race again tomorrow?" asked {hero}. ¶ "Yes," said {friend}, "and I will bring [water/bandages/a basket]."
- In the end the {prize} hung in {hero}'s house for one week, and in {friend}'s house for the next.
-
""",
    "prize | need | plea | help",
    """
    ribbon | with a heavy sack that had burst | Please help me! | picked up every single potato
    medal | with a cart that had lost a wheel | Can you hold this for me? | held the cart until the wheel was on again
    cup | with a stone in one shoe | I cannot take another step! | found the stone and tied the shoe again
    ribbon | who was looking for a pair of glasses | I cannot see a thing! | found them in the stranger's own hair
    medal | who had dropped a basket of eggs | Oh, what shall I do? | saved all the eggs but one
    cup | who was chasing a runaway hen | Stop that hen! | caught the hen with both {hand}s
    """,
    EVENING,
)

SHAPES = [LOST, MAKE, RESCUE, SHARE, FEAR, JOURNEY, SURPRISE, LEARN, MYSTERY, GARDEN, TRADE, STORM, RIDDLE, RACE]

BUILT_IN = {
    "stories": BuiltIn(
        "Small stories",
        "First come letters and spaces, then words and names, then quotation marks that close and sentences that end. "
        "Later, see whether a name keeps its he or she from one sentence to the next.",
        stories,
    ),
    "sums": BuiltIn(
        "Sums with carries",
        "Ask for 347+285= with temperature 0 and check the answer. It is written from the highest digit down, so the "
        "model has to foresee every carry. A short run only learns the form; right digits take more steps.",
        sums,
    ),
    "brackets": BuiltIn(
        "Nested brackets",
        "Every closing bracket must fit the last one still open. In the Attention tab, look for a head that looks from "
        "a closing bracket back to its partner.",
        brackets,
    ),
    "repeats": BuiltIn(
        "Repeated sequences",
        "Nobody can guess the first word of a line, but the second and third are copies, so the loss drops once the "
        "model learns to copy. In the Attention tab, look for a head that looks at what came after the same letter "
        "before.",
        repeats,
    ),
}
