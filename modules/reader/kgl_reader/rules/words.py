"""Words: how they are told from other text, and which of them carry no topic.

The lists hold the most frequent function words of seven languages; `weak` words are those of English that
say little by themselves in technical prose.
"""

import re
from collections.abc import Iterable

WORD = re.compile(r"[^\W\d_]\w*(?:-[^\W_]+)*")

_FUNCTION_WORDS = {
    "en": """
        a able about above according across add added adding adds after again against ago all allow
        allowed allowing allows almost along already also although always am among an and another any
        anyone anything apply are aren around as at available away back based be became because become
        been before behind being below besides best better between beyond both build building builds built but by
        call called calls came can cannot cause caused change changed changes changing check checks come
        comes contact contain contains could couldn create created creates currently d did didn do does
        doesn doing don done down due during each easily easy eg either else enough ensure especially
        etc even ever every everyone everything except far few find finds first five fix fixed fixes
        fixing follow followed following follows for four from fully further gave get gets getting give
        given gives giving go goes going gone good got great had hadn handle happen happens has hasn
        have haven having he help helps hence her here hers herself him himself his how however i ie if
        in include included includes including indeed install installed installing instead into is isn
        it its itself just keep keeps kept know known last later least left less let lets like likely
        little ll long longer look looking lot made mainly make makes making many may maybe me mean
        means might mine more moreover most mostly much must mustn my myself near need needed needs
        neither never new next no nobody non none nor not note nothing now of off offer offers often on
        once one ones only onto or other others otherwise our ours out over own per perhaps please
        possible provide provided provides providing put quite rather re read reading ready really remove
        removed removes removing require required requires return returned returning returns run running
        runs s said same say says second see seen set sets several shall she should shouldn show shows
        similar simply since so some someone something sometimes soon start started starting starts
        still such supply support supported supporting supports sure t take taken takes taking tell than
        that the their theirs them themselves then there therefore these they thing things third this
        those though three through throughout thus till to together too took toward towards try trying
        turn two under unless until up upon us use used useful user users uses using usually ve very via
        vs want wanted wants was wasn way ways we well went were weren what whatever when whenever where
        whereas wherever whether which while who whoever whole whom whose why will with within without
        won work worked working works would wouldn write writes written x yes yet you your yours
        yourself""",
    "de": """
        aber alle allem allen aller alles als also am an andere anderen anderer auch auf aus bei beim bereits bin
        bis bist da dabei dadurch dafür damit danach dann daran darauf daraus das dass davon dazu dem den denen
        denn der deren des dessen deshalb die dies diese diesem diesen dieser dieses doch dort du durch ein eine
        einem einen einer eines einige er es etwas euch für gegen gibt hat hatte hatten habe haben hier hin hinter
        ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im immer in indem ins ist ja jede jedem jeden jeder jedes
        jedoch jetzt kann kein keine keinem keinen keiner können könnte machen man mehr mein mit muss müssen nach
        nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so sogar
        solche soll sollen sollte sondern sonst sowie über um und uns unser unter viel viele vom von vor wann war
        waren warum was weil weiter welche welcher wenn wer werden wie wieder will wird wir wo wurde wurden während
        würde würden zu zum zur zwar zwischen""",
    "fr": """
        afin ai ainsi alors après au aucun aucune aussi autre autres aux avant avec avoir bien car ce ceci
        cela celle celles celui ces cet cette ceux chaque chez comme comment contre dans de depuis des
        deux donc dont du elle elles en encore entre est et été être eu eux fait faire font il ils je jusqu la
        le les leur leurs lors lorsque lui là ma mais me même mes moins mon ne ni non nos notre nous on ont or ou
        où par parce pas pendant peu peut peuvent plus pour pourquoi près puis qu quand que quel quelle
        quelles quels qui sa sans se sera ses si son sont sous sur ta te tes ton toujours tous tout toute
        toutes très tu un une vers vos votre vous y à""",
    "es": """
        a al algo algunas algunos ante antes aquel aquella así aunque bien cada como con contra cual cuando cuya
        cuyo de del desde donde dos durante e el ella ellas ellos en entre era eran es esa esas ese eso esos esta
        estaba estado estas este esto estos está están fue fueron ha había han hasta hay la las le les lo los
        luego más me mediante mi mientras mucho muy nada ni no nos nosotros o otra otras otro otros para pero poco
        por porque puede pueden pues que quien quienes qué se sea según ser si sido siempre sin sino sobre son su
        sus sí también tan tanto te tiene tienen todas todo todos tras tu un una unas uno unos y ya yo él""",
    "it": """
        a ad agli ai al alla alle allo altra altre altri altro anche ancora avere aveva che chi ci come con
        contro cosa così cui da dagli dai dal dalla dalle dallo degli dei del della delle dello dentro di dopo dove
        due e ed era erano essere fa fino fra gli ha hanno ho i il in io la le lei li lo loro lui ma mentre mi mia
        mio molto ne negli nei nel nella nelle nello no noi non nostra nostro o ogni oltre per perché però più poi
        prima può quale quali quando quanto quella quelle quelli quello questa queste questi questo qui se sempre
        senza si sia siamo sono sopra sotto sta stata stato su sua sue sugli sui sul sulla sulle suo suoi tra tutta
        tutte tutti tutto un una uno è""",
    "pt": """
        a ainda além ao aos apenas após aquela aquele as assim até cada com como contra da das de dela dele depois
        desde deve do dos e ela elas ele eles em enquanto entre era eram essa esse esta este está estão eu foi foram
        há isso isto já la lhe mais mas me mesmo meu minha muito na nas nem no nos nossa nosso não nós num numa o os
        ou para pela pelas pelo pelos pode podem por porque pouco qual quando que quem se sem sempre ser seu seus
        sido sob sobre sua suas são só também tem tinha toda todas todo todos têm um uma umas uns você à às é""",
    "nl": """
        aan achter al alle alles als altijd andere bij binnen daar dan dat de deze die dit doen door dus een eens
        elk elke en er geen haar had hebben heeft heel hem het hier hij hoe hun iets ik in is ja je jij kan kon
        kunnen maar me meer men met mijn moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te
        tegen toch toen tot tussen u uit uw van vanaf veel voor want waren was wat we wel welke werd wie wij wil
        worden wordt zal ze zelf zich zij zijn zo zonder zou""",
}

_WEAK_WORDS = """
    account action additional advanced api app application approach argument article badge basic behavior
    behaviour big bit branch bug button case chapter class clause client code command comment common
    community complete concept config configuration content contribute contributing contribution
    contributor copyright creating current day default dependency description detail development different
    directory doc document documentation donate donation easy end error example faq fast feature feedback
    few field figure file filename fix folder form format free full function functionality general getting
    github goal group guide help helping high high-level home how-to idea important info information input
    installation instruction introduction issue item key kind language latest level library licence
    license line link list low low-level mailing main major manual material message method minor model
    module month name new number object open open-source option optional order org output overview package
    page paper parameter part people person picture pip place platform point possible prerequisite present
    problem procedure process product program project property public purpose python question quick
    quickstart readme reason reference release repo repository request requirement result right same
    sample script section server service setting setup short side similar simple single site size small
    software solution source specific sponsor standard state statement static status step string style
    summary support system table tag task term test text thank time tip title todo tool top total tutorial
    type update usage user value variable various version view website week word world writing year"""

# Endings of English words that qualify another word, and so name nothing by themselves.
_QUALIFIERS = ("able", "ible", "ful", "ive", "ous", "ly", "ed", "less")
_PLURALS_IN_ES = ("ches", "shes", "xes", "sses")

_WEAK = frozenset(_WEAK_WORDS.split())
_SETS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
ENGLISH = _SETS["en"]


def function_words(words: Iterable[str]) -> frozenset[str]:
    """Return the function words of the language that most of these lower-case words are of, else English."""
    counts = dict.fromkeys(_SETS, 0)
    for word in words:
        for language, known in _SETS.items():
            if word in known:
                counts[language] += 1
    return _SETS[max(counts, key=counts.__getitem__)]


def is_weak(word: str) -> bool:
    """Return whether a word, given by its stem, says too little to begin a topic or to be one."""
    return word in _WEAK


def names_something(word: str) -> bool:
    """Return whether a stem can be a topic alone: it is neither weak nor, by its ending, a qualifier."""
    return word not in _WEAK and len(word) > 2 and not word.endswith(_QUALIFIERS)


def stem(word: str) -> str:
    """Return the word in lower case without a plural's ending, so that `files` and `file` are one word."""
    word = word.lower()
    if len(word) < 4 or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith(_PLURALS_IN_ES):
        return word[:-2]
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
