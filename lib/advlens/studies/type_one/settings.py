"""What the Type I study publishes, and what is compared here."""

NETWORK = "global_pooling_cnn"  # the attacked one
JUDGE = "two_conv_cnn"  # another architecture, trained from another seed, that says what an image shows
SHOWN = ((7, 9), (7, 0))  # the study's two transitions
BINARISED = ("mnist",)  # data sets whose images the generator takes as black and white, as the study does
STOPS = 9  # places along a walk where maps are compared, its two ends among them
FRAMES = 17  # pictures of a film; every second stands in a filmstrip
# Of walks: the most successful weight of 0.003, 0.01 and 0.03 on 100 training images of digits. The study's k ≤ 0.001,
# rate and 20,000 steps are the attack's defaults.
WALK = {"learning_rate": 0.02, "largest_weight": 0.003, "tolerance": 1e-3}
TYPE_TWO_STEPS = 40  # of BIM towards the same class, at the larger ε of the closeness study: the attack of equal effect
CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"
