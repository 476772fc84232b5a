"""The words that features count, by what they tell of a request: lower-case ASCII, matched whole."""

from typing import Final


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


FUNCTION: Final = _words("""
a about after all also am an and any are as at be because been before being between both but by can could did do does
during each for from had has have he her him his how i if in into is it its just like may me might more most my no nor
not of off on one only or other our out over own same shall she should so some such than that the their them then there
these they this those through to too under until up upon us very was we were what when where which while who whom whose
why will with would you your
""")
NUMBER: Final = _words("""
one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty seventy eighty
ninety hundred thousand million billion half third quarter twice thrice double triple dozen first second once
""")
QUANTITY: Final = _words("""
each every per total altogether sum remaining left remain more fewer less than times many much average difference
combined rest amount cost costs price pay paid earn earns spend spends spent buy buys bought sell sells sold increase
decrease increased decreased rate percent percentage ratio share equal equally twice half profit discount
""")
UNIT: Final = _words("""
kg g mg lb lbs pound pounds ounce ounces ton tons m cm mm km mile miles feet foot ft inch inches yard yards meter meters
metre metres liter liters gallon gallons ml l hour hours hr hrs minute minutes min seconds s ms day days week weeks
month months year years mph kph hz v volt volts w watt watts j joule joules n newton newtons k celsius fahrenheit kelvin
degree degrees mol moles pa atm ev kev mev dollar dollars cent cents euro euros
""")
CONDITION: Final = _words("""
if suppose assume assuming given let unless otherwise such whenever provided consider imagine hypothetically therefore
hence thus then must
""")
NEGATION: Final = _words("""
not except least never none neither nor false incorrect incorrectly cannot without isn aren don doesn wasn wouldn
impossible unlikely lacks excluding
""")
MATHS: Final = _words("""
integer integers polynomial polynomials prime theorem proof prove equation equations function matrix vector vectors
triangle circle square radius angle angles probability derivative integral limit sequence series graph vertex vertices
group ring field isomorphic homomorphism modulo divisible remainder factor factors digit digits real complex root roots
coefficient linear quadratic logarithm exponent sine cosine tangent perimeter area volume diagonal parallel
perpendicular coordinates plane axis slope inequality maximum minimum value values solve compute evaluate simplify
permutation combination set subset union intersection mean median variance fraction decimal multiple divisor product
expression variable constant dimension eigenvalue bounded continuous differentiable converges infinite finite cyclic
abelian subgroup hexagon polygon rectangle cube sphere ellipse parabola hyperbola
""")
SCIENCE: Final = _words("""
atom atoms molecule molecules electron electrons proton neutron ion ions acid base reaction reactions compound compounds
solution concentration oxidation enzyme enzymes protein proteins gene genes dna rna cell cells membrane mutation
chromosome allele species organism evolution velocity acceleration force mass energy momentum charge field magnetic
electric current voltage resistance circuit wavelength frequency photon quantum temperature pressure gas heat entropy
enthalpy equilibrium kinetic potential orbital spin nucleus isotope bond carbon oxygen hydrogen nitrogen ph molar
catalyst polymer spectrum spectroscopy nmr mhz star stars galaxy planet orbit light particle particles thermodynamic
""")
MEDICINE: Final = _words("""
patient patients disease disorder syndrome symptoms diagnosis treatment therapy drug drugs clinical infection cancer
tumor blood heart liver kidney lung brain nerve muscle bone artery vein physician hospital surgery fever pain chronic
acute hormone insulin antibody antibodies bacteria virus vaccine dose pregnancy anatomy
""")
LAW: Final = _words("""
court plaintiff defendant statute law legal contract contracts liability negligence tort crime criminal murder
prosecution constitutional amendment jurisdiction evidence testimony jury judge trial appeal property deed lease owner
tenant landlord buyer seller damages breach sued sue suit action rights police warrant convicted guilty
""")
ECONOMY: Final = _words("""
market markets demand supply price prices inflation interest tax taxes income gdp monetary fiscal policy bank firm firms
company investment capital stock bond bonds revenue budget currency trade tariff labor wage wages unemployment
management marketing accounting audit assets liabilities equity
""")
HUMANITY: Final = _words("""
philosopher philosophy moral morally ethics ethical argument theory belief religion god church war empire king queen
president government political party democracy treaty revolution century ancient culture society social psychology
behavior cognitive historian novel author poem play film movie song singer actor album band team league season won
championship episode character
""")
COMPUTING: Final = _words("""
algorithm algorithms program code python java javascript sql c function class method array list string strings
dictionary tuple loop recursion pointer stack queue tree hash database query server network protocol encryption software
compiler cpu memory bit bits byte bytes binary boolean api implement debug refactor regex complexity
""")
ORDERED: Final = _words("""
first second third next then after before finally lastly followed also additionally furthermore moreover both either
person people house next directly somewhere
""")
FORMAT: Final = _words("""
json csv yaml xml table markdown format bullet bullets list sentences words paragraphs paragraph outline summary
summarize translate rewrite rephrase essay email letter boxed answer
""")
FOREIGN: Final = _words("""
el la los las una del que por para con como esta este pero cuando donde porque der die das und ist nicht ein eine mit
von auf wie warum les des une est dans pour avec sur qui pas sont comment pourquoi il che di per non sono come perche
uma com mas quando nao seu sua wat het een voor niet hoe
""")
ASKS_FACT: Final = frozenset([b"who", b"whom", b"whose", b"when", b"where"])
ASKS_REASON: Final = frozenset([b"why", b"explain", b"describe", b"discuss", b"justify", b"analyze", b"analyse"])
ASKS_CLOSED: Final = _words("is are was were do does did can could will would should has have had may")
ORDERS: Final = _words("""
write find determine solve evaluate compute calculate prove show design implement compare create generate give list
name simplify express convert complete summarize translate classify identify consider describe explain make fix
""")
