"""Addresses of the console. None holds a tenant's id: the session and the membership say which one it is."""

from __future__ import annotations

from django.urls import path

from console.views import accounts, assets, datasets, home, jobs, keys, search

app_name = "console"

urlpatterns = [
    path("", home.show, name="home"),
    path("login", accounts.SignIn.as_view(), name="login"),
    path("logout", accounts.sign_out, name="logout"),
    path("workspace", accounts.choose, name="choose"),
    path("datasets", datasets.index, name="datasets"),
    path("datasets/new", datasets.create, name="datasets-new"),
    path("datasets/<uuid:dataset_id>", datasets.show, name="dataset"),
    path("datasets/<uuid:dataset_id>/edit", datasets.edit, name="dataset-edit"),
    path("datasets/<uuid:dataset_id>/delete", datasets.delete, name="dataset-delete"),
    path("datasets/<uuid:dataset_id>/assets", assets.add, name="dataset-add"),
    path("assets/<uuid:asset_id>", assets.show, name="asset"),
    path("assets/<uuid:asset_id>/tile", assets.tile, name="asset-tile"),
    path("assets/<uuid:asset_id>/edit", assets.edit, name="asset-edit"),
    path("assets/<uuid:asset_id>/delete", assets.delete, name="asset-delete"),
    path("assets/<uuid:asset_id>/content", assets.content, name="asset-content"),
    path("assets/<uuid:asset_id>/thumbnail", assets.thumbnail, name="asset-thumbnail"),
    path("search", search.show, name="search"),
    path("search/results", search.results, name="search-results"),
    path("jobs", jobs.index, name="jobs"),
    path("jobs/states", jobs.states, name="jobs-states"),
    path("jobs/<uuid:job_id>", jobs.show, name="job"),
    path("jobs/<uuid:job_id>/events", jobs.events, name="job-events"),
    path("jobs/<uuid:job_id>/cancel", jobs.cancel, name="job-cancel"),
    path("jobs/<uuid:job_id>/retry", jobs.retry, name="job-retry"),
    path("keys", keys.index, name="keys"),
    path("keys/<uuid:key_id>/revoke", keys.revoke, name="key-revoke"),
]
