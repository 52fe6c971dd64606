"""A shop of one page, made of Django, with its administration.

`SHOP_FOLDER` is where its files are. `collect` gathers the static files of the shop (`assets` there) and of the
administration in `static`, under their names and under names with a hash of their content, and lays a packed copy
beside each. Otherwise it is an application for gunicorn: `django_app:application`.
"""

import gzip
import os
import sys
from pathlib import Path

from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path

FOLDER = Path(os.environ["SHOP_FOLDER"])

PAGE = """{% load static %}<!doctype html>
<link rel="stylesheet" href="{% static 'shop.css' %}">
<p>{{ request.scheme }} {{ request.get_host }}</p>
"""

settings.configure(
    SECRET_KEY="a secret of tests",
    ALLOWED_HOSTS=["shop.test"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib." + name
        for name in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "shop.sqlite"}},
    STATIC_URL="/static/",
    STATIC_ROOT=FOLDER / "static",
    STATICFILES_DIRS=[FOLDER / "assets"],
    STORAGES={
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {
            "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
        },
    },
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
)


def page(request):
    template = engines["django"].from_string(PAGE)
    return HttpResponse(template.render({}, request))


application = get_wsgi_application()
urlpatterns = [path("", page), path("admin/", admin.site.urls)]


def collect():
    call_command("collectstatic", interactive=False, verbosity=0)
    for file in list(settings.STATIC_ROOT.rglob("*")):
        if file.suffix in (".css", ".js"):
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))


if __name__ == "__main__" and sys.argv[1:] == ["collect"]:
    collect()
