"""The word lists behind `gateway.cache.wording`: patterns over lower-case text with straight quotes; no decisions here.

English, and the commonest words of Spanish, French, German, Portuguese, Italian and some other scripts. A longer list
refuses more, a shorter one shares more; false refusals were trimmed on public questions, so measure it on others.
"""

import re


def _words(lines: str, *scripts: str) -> re.Pattern[str]:
    """Any of the alternatives as whole words, one or several to a line; `scripts` have no words to be whole."""
    whole = "|".join(line.strip() for line in lines.strip().splitlines())
    return re.compile("|".join([rf"\b(?:{whole})\b", *scripts]))


CODE = re.compile(
    r"""
    ```|~~~|<script\b
    |^(?:\ {4,}|\t)\S.*[;{}()=]\s*$
    |[;{}]\s*\n
    |^\s*(?:def|class|\#include|import)\ \S+.*\n
    """,
    re.MULTILINE | re.VERBOSE,
)

VOLATILE = _words(
    r"""
    today|tonight|tomorrow|yesterday|now|nowadays|currently|current (?!accounts?\b|flows?\b|through\b)(?=\w)
    latest|newest|recent|recently
    upcoming|ongoing|breaking|trending|at the moment|at present|so far|up[- ]to[- ]date|as of|real[- ]time
    this (?:morning|afternoon|evening|week|weekend|month|quarter|year|season)
    (?:last|next|past|coming) (?:night|few|hours?|days?|week|weekend|month|quarter|year|season|\w+day)
    weather|forecasts?|headlines?|live score|scores? (?:of|for|in)|who(?:'s|s| is) (?:winning|playing)
    traffic (?:on|in|near|reports?|conditions|updates?|like)
    (?:the|any|in|sports?|world|local) news|news (?:about|on|from|of)
    (?:which|what|best|good|top|hot) (?:\w+ )?stocks?(?! exchange| market)
    stocks? to buy|in stock|shares?(?= price)|open (?:right )?now|price now|mortgage rates?
    (?:stock|share|oil|gold|gas|petrol|fuel|house|bitcoin|btc|ethereum|eth|crypto) prices?
    prices? (?:of|for) (?:gold|silver|oil|gas|petrol|bitcoin|btc|ethereum|eth|crypto)
    (?:what|what's|whats|give me) [^.?!]{0,30}(?:exchange|interest|conversion) rates?
    what(?:'s|s| is)? (?:the )?(?:time|date|day)(?: is it)?(?= *(?:[?.!]|$|in|now))|what (?:time|day|year) is it
    hoy|ahora|mañana|ayer|últim[oa]s?|actual(?:es|mente)|noticias|clima
    aujourd'hui|maintenant|demain|hier|dernières?|derniers?|actuellement|actualités?|météo
    heute|jetzt|morgen|gestern|neuest\w*|aktuell\w*|nachrichten|wetter|derzeit
    hoje|agora|amanhã|ontem|atual(?:mente)?|notícias
    oggi|adesso|domani|ieri|ultim[oaie]|attual[ei]|attualmente|notizie|meteo
    """,
    "天气|天氣|今天|现在|現在|最新|明天|昨天|新闻|今日|天気|ニュース|오늘|지금|날씨|최신|뉴스",
    "сегодня|сейчас|завтра|вчера|погода|новост|последн|اليوم|الآن|الطقس|आज|अभी|मौसम",
)

_ACTS = (
    "activate|add|approve|arrange|archive|assign|authori[sz]e|ban|block|book|buy|call|cancel|change|charge|close|"
    "commit|confirm|deactivate|delete|deploy|deposit|disable|disconnect|dispatch|e-?mail|enable|erase|execute|"
    "extend|file|forward|freeze|give|grant|install|invite|invoke|issue|kill|launch|lock|log|mail|merge|message|move|"
    "notify|open|order|pause|pay|phone|place|play|post|print|publish|purchase|push|reboot|record|redeem|refund|"
    "register|reject|remind|remove|renew|replace|reply|report|reschedule|reserve|reset|restart|restore|revoke|"
    "rollback|run|save|schedule|sell|send|set|share|ship|shut|sign|start|stop|submit|subscribe|suspend|switch|"
    "terminate|text|top|transfer|trigger|turn|tweet|unblock|unfreeze|uninstall|unlock|unsubscribe|update|upgrade|"
    "upload|verify|wipe|wire|withdraw"
)
_ASKS = "|".join(  # no alternative may begin with the end of another one: the repetition must stay linear
    line.strip()
    for line in r"""
    please|pls|plz|kindly|hey|hi|hello|ok|okay|so|then|and|also|just|quickly|immediately|now|let's|would you mind
    (?:can|could|would|will|won't) (?:you|u)
    go ahead and|make sure (?:to|you)|be sure to|try to|remember to|don't forget to|help me(?: to)?
    i(?: would|'d)? (?:want|need|like|wish|have|love)(?: you)? to|i(?:'m| am) (?:trying|going|looking) to
    you (?:should|must|need to|have to)|tell \w+ to|ask \w+ to
    """.strip().splitlines()
)
_A_NOUN = (
    r"""\s+(?:of|is|are|was|were|has|have|by|not|fees?|status|recommendations?|limits?|times?|types?|vs|versus)\b"""
)
IMPERATIVE = re.compile(rf"^(?:(?:{_ASKS})[,:!]*\s+)*(?:{_ACTS})\b(?!{_A_NOUN}|\s*[?:]|[-'])")
"""A sentence that begins with a verb of acting, after words of asking; not one where the verb is a noun."""
IMPERATIVE_ELSEWHERE = re.compile(
    "^(?:"
    "envía|manda|borra|elimina|paga|reserva|cancela|compra|transfiere|"
    "envoie[sz]?|supprime[sz]?|paye[sz]?|réserve[sz]?|annule[sz]?|achète|"
    "sende?|schicke?|lösche?|überweise?|bezahle?|buche?|kaufe?|storniere?|bestelle?|"
    "envie|apague|pague|reserve|cancele|compre|invia|cancella|prenota|annulla|acquista"
    r")\b"
)
AND_THEN = re.compile(
    rf"\b(?:and|then)(?: then| also| please)* (?:{_ACTS}) "
    r"(?:it|this|that|them|these|those|me|him|her|us|the|my|an?|\d)\b"
)
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")

_OURS = (
    "company|team|account|order|office|department|firm|business|server|cluster|database|network|project|product|website|"
    "app|contract|agreement|policy|data|customers?|clients?|employees?|revenue|sales|subscription|plan|invoice|booking"
)
FIRST_PERSON = _words(
    rf"""
    i(?![./&-]\w)|me|my|myself|(?:is|are|of) mine|i'(?:m|ve|d|ll)|im|ive|our (?:\w+ )?(?:{_OURS})
    """,
    "我|私|僕|俺|나의|내 |제 ",
    r"\b(?:я|мне|мо[йяеиёю]\w*)\b",
)
"""Without "we" and "our" as such: they are mostly mankind's ("why do we dream")."""
FIRST_PERSON_ELSEWHERE = _words(
    r"""
    mi|mis|mío|mía|moi|mon|mes|ma|je|j'\w+|ich|mein\w*|mir|mich
    eu|meu|meus|minha|minhas|il mio|la mia|miei|mie
    """
)
ENGLISH = _words("the|what|what's|how|which|who|why|when|where|does|is|are|can|should")
COURTESY = _words(
    r"""
    (?:tell|give|show|help|teach|walk|advise|inform|guide|let|remind) me|(?:explain|describe)(?: \w+)? to me
    i(?:'d| would)? (?:want|need|like|love|wish) to (?:know|learn|understand|hear|find out|ask)
    i(?:'m| am| was| have been|'ve been)? (?:just )?wonder(?:ing)?|i have a question|(?:may|can|could) i (?:ask|know)
    """
)
"""First persons that say nothing of their author."""
ORDINAL_I = re.compile(
    r"\b(?:war|type|part|phase|chapter|class|stage|volume|grade|level|act|book|[a-z]+(?:th|es|ry)) i\b"
)
"""World War I, Elizabeth I: a numeral."""
ACRONYM = re.compile(r"\b(?:[A-Z]\.){2,}|\b[A-Z]{2,4}\b")
"""US, EU, ME: not pronouns, unless everything is in capitals."""
HOW_TO = _words(
    r"""
    how (?:do|does|can|could|would|should|may|might|must) (?:i|we|one|you)|how to|(?:tell|show) me how
    (?:know|understand|learn) how to|ways? to|steps? to|whether (?:i|we) can
    (?:can|could|may|should|must|shall|do|would|will|might) (?:i|we)
    (?:am|are) (?:i|we) (?:able|allowed|supposed|required|eligible|obliged|permitted)
    is it (?:\w+ )?(?:possible|ok|okay|allowed|safe|legal|necessary|required|free)
    is there (?:a|an|any|some) (?:\w+ )?(?:ways?|fees?|charge|limits?|cost|option|method|minimum|maximum)
    what (?:should|can|could|must|do|would|will) (?:i|we)|what (?:happens|would happen|will happen|to do)
    (?:what|which) (?:kinds?|types?|sorts?) of|which \w+(?: \w+)? (?:can|could|should|do|may|must) (?:i|we)
    where (?:do|can|could|should|would|will) (?:i|we)|when (?:can|should|do|must|may) (?:i|we)
    who (?:can|should|do|could) (?:i|we)|how long (?:does|do|will|would|is|are|can|should)
    what (?:are|is) the (?:\w+ )?(?:steps?|ways?|process|procedure|requirements?|fees?|limits?|rules?|options?|cost)
    (?:what|how) if (?:i|we|my|our)|if (?:i|we|my|our)
    cómo (?:puedo|podemos|se|hago)|puedo|podemos|comment (?:puis-je|faire|je peux)|puis-je
    wie (?:kann|können|muss) (?:ich|wir|man)|kann (?:ich|man)
    como (?:posso|faço|se)|posso|come (?:posso|si|faccio)
    """,
    "如何|怎么|怎樣|怎样|どうやって|어떻게",
    r"\bкак (?:мне|можно)\b",  # noqa: RUF001 - Russian
)
"""Asks how something is done, or whether it can be."""
_HELD = (
    "balance|statement|transactions?|orders?|payments?|history|bill|invoice|salary|bookings?|appointments?|usage|"
    "results?|score|status|password|pin|name|address|calendar|emails?|messages?|schedule|meetings?"
)
OWN_STATE = _words(
    rf"""
    how (?:much|many) [^.?!]{{0,40}}?(?:do|did|have|am|can|will) (?:i|we) (?:have|got|owed?|spen[dt]|earn(?:ed)?|left)
    how (?:much|many) [^.?!]{{0,40}}?(?:do|did|have|am|can|will) (?:i|we) (?:paid|pay|own|used?)
    (?:what|what's|whats|show|see|check|tell|give|display|view|look up|find|list) (?:\w+ ){{0,3}}(?:my|our) (?:\w+ ){{0,2}}(?:{_HELD})
    why (?:is|was|are|were|has|have|had|did|does|do|am)(?:n't|nt)?|why (?:can|could|wo)(?:n't|nt|t)|why can(?:no|')t
    (?:is|are|was|were|has|have|had|did|does) (?:my|our|i|we)|where(?:'s| is| are| was) (?:my|our)
    when (?:will|did|does|is|was|are) (?:my|our|i|we)|what (?:did|have|am|was) (?:i|we)|who am i|remember
    (?:if|whether) (?:i|we) (?!can|could|should|need|must|may|might|want|am able|are able|have to|do|lose|forget)
    (?:check|see|know|wonder\w*|tell me|ask\w*|sure|confirm|verify|find out|explain) (?:if|whether) (?:my|our)
    """  # noqa: E501 - one alternative
)
"""Asks what is the case with its author, also where it asks how or whether besides."""
HOW_FIRST = re.compile(r"^(?:what (?:happens|should|can|do|would|if)|how (?:do|can|to|should|long))\b")
"""Asks how before it says anything of its author."""

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
MIXED = re.compile("[A-Za-z\u00c0-\u024f][\u0370-\u058f]|[\u0370-\u058f][A-Za-z\u00c0-\u024f]")
"""A Latin letter beside a Greek, Cyrillic or Armenian one: what confusable spellings are made of."""
