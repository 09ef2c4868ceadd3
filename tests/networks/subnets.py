"""Networks within networks, for tests: what an option such as `subnet` stands for."""

from gradloom.parts import NetworkChoice, networks


def subnet(name, **options):
    return NetworkChoice(name, networks.find(name), options)


def small(image_size=16, width=4, **options):
    return subnet("small_classifier", image_size=image_size, width=width, **options)
