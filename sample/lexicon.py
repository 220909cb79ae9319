"""The words of the sample language and their meanings, as tables that world.py parses.

A line `bird: sparrow robin` means that a sparrow is a bird. a/b are two words for the same thing.
"""

# Kinds of things, all of them countable. Irregular plurals are in PLURALS.
NOUNS = """
thing: creature object food
creature: animal person
animal: bird dog cat/feline horse fish rabbit/hare insect mouse
bird: sparrow robin crow owl eagle duck hen
dog: poodle terrier hound puppy
cat/feline: kitten tomcat
horse: pony stallion mare
fish: trout salmon carp
insect: bee ant beetle moth
person: adult child/kid
adult: woman/lady man/gentleman worker artist traveller/traveler
child/kid: girl boy pupil
worker: baker farmer doctor/physician teacher sailor soldier lawyer/attorney carpenter nurse cook/chef
artist: painter singer dancer poet/writer drummer
traveller/traveler: tourist pilgrim
object: vehicle tool furnishing toy instrument garment plant
vehicle: car/automobile bicycle/bike truck/lorry boat wagon
car/automobile: taxi/cab limousine
boat: canoe ferry
tool: hammer saw knife shovel/spade broom
furnishing: chair table bed desk sofa/couch
chair: stool armchair
toy: doll ball kite puzzle
instrument: piano violin/fiddle drum flute
garment: coat/jacket shirt hat scarf dress
plant: tree flower bush/shrub
tree: oak pine birch willow
flower: rose tulip daisy lily
food: fruit vegetable bun cake pie sausage
fruit: apple pear plum peach berry
berry: strawberry blueberry
vegetable: carrot onion potato turnip
cake: cupcake pancake
"""

# Verbs: kind of agent > kind of patient (- for none), then general: special.
VERBS = """
creature > food        | eat: devour nibble
creature > food        | smell/sniff:
person > food          | prepare: cook
person > food          | cook: boil fry roast
creature > creature    | follow: chase/pursue
creature > creature    | meet/encounter: greet
creature > creature    | harm/hurt: bite kick
creature > creature    | help/assist: rescue/save
person > person        | praise/compliment: applaud
person > person        | blame/accuse:
person > person        | marry/wed:
person > person        | teach/instruct:
creature > thing       | perceive: see notice hear
creature > thing       | see: watch
creature > thing       | find/discover:
creature > thing       | lose:
creature > object      | touch: push pull
person > thing         | like: love/adore
person > thing         | dislike: hate/detest
person > object        | obtain/get: buy/purchase steal borrow
person > object        | sell:
person > object        | fix/repair:
person > object        | damage: break/smash scratch
person > object        | clean: wash scrub
person > object        | carry: lift
person > object        | drop:
person > object        | draw/sketch:
person > vehicle       | drive:
person > instrument    | play:
person > garment       | wear:
person > plant         | water:
creature > -           | move: walk run crawl jump/leap
creature > -           | run: sprint dash
creature > -           | rest: sleep/slumber sit
creature > -           | sleep/slumber: doze nap
person > -             | speak/talk: whisper shout/yell
person > -             | perform: sing dance
person > -             | laugh: giggle chuckle
person > -             | cry/weep: sob
creature > -           | arrive:
creature > -           | leave/depart:
creature > -           | swim:
person > -             | work/labour:
"""
OPPOSITES = """
like dislike, praise/compliment blame/accuse, push pull, help/assist harm/hurt, find/discover lose, carry drop,
fix/repair damage, obtain/get sell, arrive leave/depart, laugh cry/weep, rest move
"""

# Base form, past tense and participle of irregular verbs.
IRREGULAR = """
eat ate eaten, meet met met, hurt hurt hurt, bite bit bitten, wed wed wed, teach taught taught, see saw seen,
hear heard heard, find found found, lose lost lost, get got got, buy bought bought, steal stole stolen,
sell sold sold, break broke broken, draw drew drawn, drive drove driven, wear wore worn, run ran run,
sleep slept slept, sit sat sat, speak spoke spoken, sing sang sung, leave left left, swim swam swum,
weep wept wept, leap leapt leapt
"""
PLURALS = """
person people, mouse mice, man men, woman women, gentleman gentlemen, child children, fish fish, salmon salmon,
trout trout, carp carp, potato potatoes, knife knives
"""

# Scales: the kind of thing that they describe, and two opposite ends, each from mild to strong.
SCALES = """
thing    | size: small/little tiny - big/large huge/enormous
creature | age: young - old/elderly ancient
creature | mood: happy/glad overjoyed - sad/unhappy miserable
creature | speed: slow/sluggish - quick/fast rapid
person   | wealth: poor penniless - rich/wealthy
person   | kindness: kind/gentle angelic - cruel/mean vicious
person   | wit: clever/smart brilliant - foolish/silly
object   | price: cheap/inexpensive - costly/expensive priceless
object   | dirt: clean/tidy spotless - dirty/filthy
food     | taste: tasty/delicious heavenly - bland tasteless
"""
COLOURS = {"animal": "white black brown grey/gray", "object": "red green blue yellow white black"}

# Places and times: the first contains the others.
PLACES = """
in the house: in the kitchen, in the bedroom, in the cellar/in the basement, in the attic
on the farm: in the barn, in the stable, in the orchard
in the town: at the market, at the library, at the harbour/at the port, at the station
in the park: near the pond, near the fountain
in the forest/in the woods: in the clearing, beside the stream/beside the brook
"""
TIMES = """
yesterday: yesterday morning, yesterday evening
last week: last monday, last friday
in winter: in january, in december
in summer: in july, in august
"""

# Reviews, for the sentiment tasks: how good a word is, from -3 to 3.
REVIEW_SUBJECTS = "film movie story book play show novel comedy drama concert".split()
ASPECTS = "plot acting music ending dialogue cast script scenery humour pacing".split()
QUALITIES = {
    -3: "terrible awful dreadful horrible atrocious".split(),
    -2: "bad poor weak tedious boring".split(),
    -1: "dull bland forgettable uneven clumsy".split(),
    0: "ordinary average plain usual".split(),
    1: "decent pleasant fine likable neat".split(),
    2: "good moving engaging clever lovely".split(),
    3: "superb brilliant wonderful magnificent masterful".split(),
}
